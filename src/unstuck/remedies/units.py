"""Units that let nothing through, begun anew."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.errors import MeasurementError
from unstuck.findings.records import Cause
from unstuck.measurements.data.fresh import fresh_copy
from unstuck.objective.parameters import Slot
from unstuck.remedies.run import Run
from unstuck.remedies.steps import smaller_step
from unstuck.remedies.treatment import ANEW, NotApplicableError, Situation, Treatment, together

# A layer is begun anew when more than this share of its units is dead or saturated.
_MANY = 0.2

# Layers that are named in one line.
_SHOWN = 3


def revive(known: Situation) -> Sequence[Treatment]:
    """Initialise anew the units whose weights get no gradient from any example."""
    names = _sick(known, dead=True)
    if not names:
        return []
    return _also_slower(_treatment("revive", Cause.DEAD_UNITS, names, known.seed, dead=True), known)


def desaturate(known: Situation) -> Sequence[Treatment]:
    """Initialise anew the layers whose units sit where their slope is zero."""
    names = _sick(known, dead=False)
    if not names:
        return []
    return _also_slower(_treatment("desaturate", Cause.SATURATED_UNITS, names, known.seed, dead=False), known)


def begin_anew(known: Situation) -> Sequence[Treatment]:
    """Initialise every parameter anew; the optimizer's state with it."""

    def apply(run: Run) -> None:
        fresh = fresh_parameters(run, known.seed)
        run.move(fresh - run.theta().to(fresh))
        run.forget()

    driven = frozenset({Cause.SATURATED_UNITS, Cause.DEAD_UNITS})
    anew = Treatment(
        "begin-anew",
        driven | {Cause.PLATEAU, Cause.VANISHING_GRADIENT},
        "all parameters as PyTorch initialises them",
        (ANEW,),
        "Glorot & Bengio, 2010; He et al., 2015",
        apply,
    )
    _, *slower = _also_slower(anew, known)
    return [anew, *(replace(each, treats=driven) for each in slower)]


def _also_slower(made: Treatment, known: Situation) -> list[Treatment]:
    """With a smaller step, too: one that has killed units, or saturated them, does it again to what begins anew."""
    return [made, *(together(made, step) for step in smaller_step(known)[:1])]


def fresh_parameters(run: Run, seed: int) -> Float[Tensor, " n"]:
    """Give the parameters of the model begun anew, as a flat vector.

    Raises:
        NotApplicableError: The model cannot be copied.
    """
    try:
        made = dict(fresh_copy(run.training.model, seed=seed).named_parameters())
    except MeasurementError as error:
        raise NotApplicableError(str(error)) from error
    return run.objective.parameters.flatten(
        [made[slot.name].detach() for slot in run.objective.parameters.slots]
    )


def _treatment(name: str, cause: Cause, layers: list[str], seed: int, *, dead: bool) -> Treatment:
    shown = ", ".join(f"`{layer}`" for layer in layers[:_SHOWN]) + (" and more" if layers[_SHOWN:] else "")

    def apply(run: Run) -> None:
        here, fresh = run.theta(), fresh_parameters(run, seed)
        move = torch.zeros_like(here)
        rows = zip(
            run.objective.parameters.slots,
            run.objective.parameters.pieces(here),
            run.objective.parameters.pieces(fresh.to(here)),
            run.objective.parameters.pieces(move),
            run.objective.parameters.pieces(run.objective.gradient(here)),
            strict=True,
        )
        for slot, present, anew, moved, slope in rows:
            if _layer(slot) not in layers:
                continue
            chosen = (
                slope.flatten(1).eq(0.0).all(1) if dead and slope.ndim > 1 else torch.ones(len(slope)).bool()
            )
            if dead and slope.ndim == 1:
                chosen = slope.eq(0.0)
            moved[chosen] = (anew - present)[chosen]
        if not bool(move.any()):
            msg = "no weights of such units were found"
            raise NotApplicableError(msg)
        run.move(move)
        run.forget()

    return Treatment(
        name,
        frozenset({cause}),
        f"{'dead units' if dead else 'saturated layers'} of {shown} initialised anew",
        tuple(f"model.get_submodule({layer!r}).reset_parameters()" for layer in layers[:_SHOWN]),
        "He et al., 2015" if dead else "Glorot & Bengio, 2010",
        apply,
    )


def _sick(known: Situation, *, dead: bool) -> list[str]:
    layers = known.measured.layers
    found = [
        activation.name
        for activation in (layers.activations if layers else ())
        if (activation.dead if dead else activation.saturated) > _MANY and activation.name != "input"
    ]
    return list(dict.fromkeys(found))


def _layer(slot: Slot) -> str:
    return slot.name.rpartition(".")[0]
