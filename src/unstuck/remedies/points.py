"""Leaving a point where the gradient does not lead: along negative curvature, or off a symmetric subspace."""

from collections.abc import Sequence

import torch

from unstuck.findings.records import Cause
from unstuck.measurements.descent import shaken
from unstuck.remedies.escape import End, escape
from unstuck.remedies.rules import fresh_adam, fresh_adam_lines
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, NotApplicableError, Situation, Treatment

# So few examples tell a direction along which the loss of all falls; the trial judges it on all.
_ENOUGH = 256

# Of what a continuation may cost, the escape takes at most this share; the run goes on with the rest.
_SHARE = 0.6

# With the optimizer's own steps a run may be thrown out of where an escape has led; these suit most networks.
_ADAM_RATE = 1e-3

# Offsets of the outputs are looked at in both directions, from this one on by this factor, so many times.
_FIRST_OFFSET, _FARTHER, _OFFSETS = 0.1, 1.4, 32

# Looks between the best of them and each of its neighbours.
_BETWEEN = 5


def break_symmetry(known: Situation) -> Sequence[Treatment]:
    """Displace every parameter a little, at random: what is alike becomes different."""

    def apply(run: Run) -> None:
        theta = run.theta()
        run.move(shaken(run.objective.parameters, theta, known.seed))
        run.forget()

    return [
        Treatment(
            "break-symmetry",
            frozenset({Cause.SADDLE_POINT, Cause.LOCAL_MAXIMUM, Cause.PLATEAU}),
            "a small random displacement of every parameter",
            (
                "with torch.no_grad():\n    for p in model.parameters():\n        p.add_(0.02 * torch.randn_like(p))",
            ),
            "Jin et al., 2017; Fukumizu & Amari, 2000 (symmetric units)",
            apply,
        )
    ]


def leave_saddle(known: Situation) -> Sequence[Treatment]:
    """Go down along negative curvature; then go on, with the present optimizer or with Adam."""
    return [_escape(known, adam=False), _escape(known, adam=True)]


def offset_outputs(known: Situation) -> Sequence[Treatment]:
    """Look far along the last bias: outputs beyond the reach of a bounded or clipped loss feel no slope."""
    del known

    def apply(run: Run) -> None:
        theta, only = run.theta(), _few_batches(run)
        move = torch.zeros_like(theta)
        pieces = run.objective.parameters.pieces(move)
        biases = [piece for piece in pieces if piece.ndim <= 1]
        if not biases:
            msg = "the model has no bias"
            raise NotApplicableError(msg)
        distances = [_FIRST_OFFSET * _FARTHER**power for power in range(_OFFSETS)]
        losses: dict[float, float] = {}

        def look(distance: float) -> None:
            biases[-1].fill_(distance)
            values = run.objective.values(theta + move, only)
            losses[distance] = sum(values) / len(values)

        for distance in (0.0, *distances, *(-distance for distance in distances)):
            look(distance)
        coarse = min(losses, key=lambda distance: losses[distance])
        for power in range(1 - _BETWEEN, _BETWEEN):
            look(coarse * _FARTHER ** (power / _BETWEEN))
        best = min(losses, key=lambda distance: losses[distance])
        if best == 0.0:
            msg = "no offset of the outputs lowers the loss"
            raise NotApplicableError(msg)
        biases[-1].fill_(best)
        run.move(move)
        run.forget()

    return [
        Treatment(
            "offset-outputs",
            frozenset({Cause.PLATEAU}),
            "the last bias moved to where the loss begins to fall",
            ("with torch.no_grad():\n    last_layer.bias.fill_(targets.mean())",),
            "the mean of the targets as first output (Goodfellow et al., 2016, section 8.4)",
            apply,
        )
    ]


def _escape(known: Situation, *, adam: bool) -> Treatment:
    def apply(run: Run) -> None:
        only = _few_batches(run)
        examples = sum(run.objective.batches[index].examples for index in only)
        budget = _SHARE * known.horizon / examples
        found = escape(run.objective, only=only, seed=known.seed, gradients=budget)
        if found.end is End.INTERRUPTED:
            raise KeyboardInterrupt
        if not run.objective.space.norm(found.displacement):
            msg = f"no way down was found within {budget:.0f} gradients: {found.end}"
            raise NotApplicableError(msg)
        run.move(found.displacement)
        run.forget()
        if adam:
            run.optimizer = fresh_adam(run.optimizer, _ADAM_RATE)

    after = f", then Adam at rate {_ADAM_RATE:g}" if adam else ""
    lines = (
        "# unstuck treat TARGET --out treated.pt",
        "model.load_state_dict(torch.load('treated.pt')['model_state_dict'])",
    )
    if adam:
        lines = (*lines, *fresh_adam_lines(known.training, _ADAM_RATE))
    return Treatment(
        "escape",
        frozenset({Cause.SADDLE_POINT, Cause.LOCAL_MAXIMUM, Cause.PLATEAU}),
        f"a way down along negative curvature{after}",
        lines,
        "Nocedal & Wright, 2006, section 3.4; Carmon et al., 2018",
        apply,
        left=Left.BEFORE if adam else Left.NOTHING,
    )


def _few_batches(run: Run) -> tuple[int, ...]:
    """The first batches of the sample that hold enough examples to find a direction on."""
    chosen: list[int] = []
    examples = 0
    for index, batch in enumerate(run.objective.batches):
        chosen.append(index)
        examples += batch.examples
        if examples >= _ENOUGH:
            break
    return tuple(chosen)
