"""Parameters that no update reaches, brought into the training."""

from collections.abc import Sequence

import torch

from unstuck.findings.records import Cause
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import NotApplicableError, Situation, Treatment

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
        rate = next((float(g["lr"]) for g in run.optimizer.param_groups if g.get("lr")), _RATE)
        for group in run.optimizer.param_groups:
            if "lr" in group and not float(group["lr"]):
                group["lr"] = rate
        if missing:
            _add(run.optimizer, missing, rate)

    lines = [f"model.get_parameter({name!r}).requires_grad_(True)" for name in sorted(frozen)[:3]]
    lines += ["optimizer.add_param_group({'params': [...]})  # those it does not have yet"]
    return [
        Treatment(
            "unfreeze",
            frozenset({Cause.FROZEN_PARAMETERS}),
            f"{len(names)} parameter tensors trained too, first `{names[0]}`",
            tuple(lines),
            "every parameter that the loss depends on can lower it",
            apply,
        )
    ]


def _add(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor], rate: float) -> None:
    try:
        optimizer.add_param_group({"params": parameters, "lr": rate})
    except Exception as error:
        msg = f"the optimizer takes no further parameters: {error}"
        raise NotApplicableError(msg) from error
