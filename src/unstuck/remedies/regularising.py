"""For what is learnt by heart: weights that decay, and stopping where the validation loss is lowest."""

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from unstuck.findings.records import Cause
from unstuck.objective.decay import decouples
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, Situation, Treatment

# Over the length of a trial decoupled decay shrinks the weights by exp(-1), or by exp(-3).
_SHRINKING = (1.0, 3.0)


# From what forgets within a hundred steps to what forgets within ten thousand.
_LESS = 0.01


def weight_decay(known: Situation) -> Sequence[Treatment]:
    """Let the weights decay, beside the optimizer's own step (Loshchilov & Hutter, 2019)."""
    return [_decayed(known, strength) for strength in _SHRINKING]


def less_decay(known: Situation) -> Sequence[Treatment]:
    """Let the weights decay a hundredth as fast, where what is learnt is forgotten within a hundred steps."""
    found = known.measured.forgetting
    if found is None:
        return []

    def apply(run: Run) -> None:
        for group in run.optimizer.param_groups:
            if "weight_decay" in group:
                group["weight_decay"] = _LESS * group["weight_decay"]

    return [
        Treatment(
            "less-decay",
            frozenset({Cause.LOCAL_MINIMUM, Cause.PLATEAU, Cause.SADDLE_POINT}),
            f"weight decay times {_LESS:g}: {100 * found.share:.2g} % of each weight at a step becomes "
            f"{100 * _LESS * found.share:.2g} %",
            ("for group in optimizer.param_groups:", f'    group["weight_decay"] *= {_LESS:g}'),
            "Krogh & Hertz, 1991",
            apply,
        )
    ]


def stop(known: Situation) -> Sequence[Treatment]:
    """Train no further: where the validation loss rises, the present parameters are better than later ones."""
    del known

    def apply(run: Run) -> None:
        run.factor = _zero

    return [
        Treatment(
            "stop",
            frozenset({Cause.GENERALIZATION_GAP}),
            "no further training",
            ("# stop here, or go back to the checkpoint with the lowest validation loss",),
            "early stopping (Prechelt, 1998)",
            apply,
            left=Left.ALWAYS,
        )
    ]


def _decayed(known: Situation, strength: float) -> Treatment:
    sample = known.measured.sample
    steps = max(known.horizon / (sample.examples / sample.batches), 1.0)
    share = strength / steps
    own = _decouples(known.training.optimizer)

    def apply(run: Run) -> None:
        if own:
            for group in run.optimizer.param_groups:
                group["weight_decay"] += share / group["lr"]
        else:
            run.shrink = 1.0 - share

    aside = (
        "with torch.no_grad():  # before each optimizer.step()",
        f"    for p in model.parameters():\n        p.mul_({1.0 - share:.5g})",
    )

    return Treatment(
        "weight-decay",
        frozenset({Cause.GENERALIZATION_GAP}),
        f"weights shrunk by {100 * share:.2g} % at each step",
        ("for group in optimizer.param_groups:", f'    group["weight_decay"] += {share:.5g} / group["lr"]')
        if own
        else aside,
        "Loshchilov & Hutter, 2019; Krogh & Hertz, 1991",
        apply,
        left=Left.NOTHING if own else Left.ALWAYS,
    )


def _decouples(optimizer: Optimizer | None) -> bool:
    """Whether the optimizer itself shrinks weights beside its step, and has a rate to do that at."""
    return optimizer is not None and all(
        "weight_decay" in group and decouples(optimizer, group) and float(group["lr"]) > 0.0
        for group in optimizer.param_groups
    )


def _zero(share: Any) -> float:
    del share
    return 0.0
