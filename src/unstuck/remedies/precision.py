"""Wider numbers for the parameters, so that small updates are not lost to rounding."""

from collections.abc import Sequence

import torch

from unstuck.findings.records import Cause
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, Situation, Treatment


def master_weights(known: Situation) -> Sequence[Treatment]:
    """Keep the parameters in float32 while the loss is computed in half precision; float32 ones in float64."""
    precision = known.measured.precision
    if precision is None or precision.dtype == "float64":
        return []
    half = precision.dtype in ("bfloat16", "float16")
    wide = torch.float32 if half else torch.float64

    def apply(run: Run) -> None:
        run.widen(wide, loss=not half)

    name = str(wide).removeprefix("torch.")
    return [
        Treatment(
            "master-weights",
            frozenset({Cause.PRECISION_STALL}),
            f"parameters and optimizer state in {name} instead of {precision.dtype}",
            (
                "model.float()",
                f"with torch.autocast(device_type, torch.{precision.dtype}):  # around the loss",
            )
            if half
            else ("model.double()  # and the data",),
            "Micikevicius et al., 2018, section 3.1",
            apply,
            left=Left.BEFORE,
        )
    ]
