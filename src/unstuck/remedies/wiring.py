"""Parameters that no update reaches, brought into the training."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from unstuck.findings.records import Cause
from unstuck.measurements.model.letting import Attached, StraightThrough, letting_through
from unstuck.measurements.optimizer.schedule import rate_of
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, NotApplicableError, Situation, Treatment
from unstuck.training import Training

# How gradients are let through, as code, by the reason for which none come.
_OPENED = {
    "unreached": "# without .detach(), .data and torch.no_grad() between them and the loss",
    "stepped": "y = x + (torch.round(x) - x).detach()  # for each step function, here round",
}

# What frozen parameters are trained with when no group of the optimizer has a rate.
_RATE = 1e-3


def unfreeze(known: Situation) -> Sequence[Treatment]:
    """Train what is frozen, in no group of the optimizer, or in one whose rate is zero."""
    wiring = known.measured.wiring
    if wiring is None or wiring.standing:
        return []
    reasons = {"frozen", "unlisted", "rate"}
    groups = [group for group in wiring.left_out if group.reason in reasons]
    names = [name for group in groups for name in group.names]
    if not names:
        return []
    frozen = {name for group in groups if group.reason == "frozen" for name in group.names}

    def apply(run: Run) -> None:
        missing = run.thaw(frozen)
        rate = rate_of(run.optimizer) or _RATE
        for group in run.optimizer.param_groups:
            if "lr" in group and not float(group["lr"]):
                group["lr"] = rate
        if missing:
            _add(run.optimizer, missing, rate)

    return [
        Treatment(
            "unfreeze",
            frozenset({Cause.FROZEN_PARAMETERS}),
            f"{len(names)} parameter tensors trained too, first `{names[0]}`",
            _thawing(known.training, sorted(names), sorted(frozen)),
            "every parameter that the loss depends on can lower it",
            apply,
            left=Left.BEFORE,
        )
    ]


def reconnect(known: Situation) -> Sequence[Treatment]:
    """Let gradients through to what is detached from the loss, or behind step functions."""
    wiring = known.measured.wiring
    groups = [group for group in wiring.left_out if group.reason in _OPENED] if wiring else []
    if not groups:
        return []
    reasons = {group.reason for group in groups}
    modes = (Attached, StraightThrough) if "unreached" in reasons else (StraightThrough,)

    def apply(run: Run) -> None:
        run.training = replace(run.training, loss=letting_through(run.training.loss, *modes))
        run.look_at(run.objective.batches)

    return [
        Treatment(
            "reconnect",
            frozenset({Cause.FROZEN_PARAMETERS}),
            f"gradients let through to {sum(len(group.names) for group in groups)} parameter tensors, first "
            f"`{groups[0].names[0]}`",
            tuple(_OPENED[reason] for reason in sorted(reasons)),
            "every parameter that the loss depends on can lower it",
            apply,
            in_place=False,
        )
    ]


def _thawing(training: Training, names: Sequence[str], frozen: Sequence[str]) -> tuple[str, ...]:
    """The lines that bring all of these into an optimizer, in the order in which a state of it has them."""
    optimizer = training.optimizer
    groups = optimizer.param_groups if optimizer else []
    rate = (rate_of(optimizer) if optimizer else None) or _RATE
    held = {id(parameter) for group in groups for parameter in group["params"]}
    lines: list[str] = []
    if frozen:
        lines += [f"for name in {list(frozen)}:", "    model.get_parameter(name).requires_grad_(True)"]
    if any("lr" in group and not float(group["lr"]) for group in groups):
        lines += ["for group in optimizer.param_groups:", f'    group["lr"] = group["lr"] or {rate:g}']
    if any(id(training.model.get_parameter(name)) not in held for name in names):
        lines += [
            'held = {id(p) for group in optimizer.param_groups for p in group["params"]}',
            "new = [p for p in model.parameters() if p.requires_grad and id(p) not in held]",
            f'optimizer.add_param_group({{"params": new, "lr": {rate:g}}})',
        ]
    return tuple(lines)


def _add(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor], rate: float) -> None:
    try:
        optimizer.add_param_group({"params": parameters, "lr": rate})
    except Exception as error:
        msg = f"the optimizer takes no further parameters: {error}"
        raise NotApplicableError(msg) from error
