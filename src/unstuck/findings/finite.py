"""NaN and Inf: where they appear first, what made them, and what is done about it."""

from unstuck.findings.phrases import MOST
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.updates import NonFinite

_APPEARS = {
    "parameter": "in the parameter `{name}`, before any batch is seen",
    "buffer": "in the buffer `{name}`",
    "state": "in the optimizer's state, `{name}`",
    "data": "in the data: `{name}` of batch {batch}",
    "forward": "in `{name}`, on batch {batch}, where {operation} makes it out of {made_of}",
    "loss": "in the loss itself, on batch {batch}",
    "gradient": "in the gradient of `{name}`, on batch {batch}, while the loss is finite{source}",
}

_HEALS = {
    "parameter": "Go back to a checkpoint from before it, lower the learning rate or clip the gradient.",
    "buffer": "Go back to a checkpoint from before it, or set the buffer anew.",
    "state": "Build the optimizer anew, and skip steps whose gradient is not finite.",
    "data": "Clean the data: drop or fill in the examples concerned, and check before training.",
    "forward": "Look at that place for log(0), 0/0 or exp of a large number, and bound its input.",
    "loss": "Look at the loss for log(0), 0/0 or exp of a large number.",
    "gradient": "Look for sqrt(0), norm(0) or a torch.where over a branch that is not finite; add a small number.",
}

_LOG = "It is the logarithm of 0 or less: clamp its input, or compute all in logarithms (log_softmax, logsumexp)."
_DIVISION = "It divides by 0, or 0 by 0: add a small number to the divisor, or leave such examples out."
_EXP = "It is exp of a large number: bound its input, or subtract the largest first, as logsumexp does."
_CTC = (
    "CTC costs Inf where no alignment exists: a target longer than its frames, with one frame more for each label "
    "that repeats the one before. Leave such examples out or give them more frames, or pass zero_infinity=True."
)

# What each operation makes NaN or Inf of when all it is given is finite.
_MAKES = {
    **dict.fromkeys(("log", "log2", "log10", "log1p"), _LOG),
    **dict.fromkeys(("div", "true_divide", "reciprocal"), _DIVISION),
    **dict.fromkeys(("exp", "exp2", "expm1", "cosh", "sinh"), _EXP),
    **dict.fromkeys(("ctc_loss", "cudnn_ctc_loss"), _CTC),
}

_INFINITIES = (
    "Up to there infinities may be meant, as in masks; there 0 * Inf or Inf - Inf makes NaN of them, as p * log p "
    "does at p = 0, or a softmax of a row that is masked throughout. Fill masks with a large finite number (-1e9), "
    "use torch.xlogy or torch.where for such products, and leave no row without anything."
)

_OVERFLOWS = "Compute this place in float32, use bfloat16 instead of float16, or lower the loss scale."


def non_finite(found: NonFinite) -> Finding:
    """NaN or Inf, named where it appears first."""
    source = f": the derivative of {found.operation} in `{found.module}` makes it" if found.module else ""
    where = _APPEARS[found.place].format(
        name=found.name,
        batch=found.batch,
        operation=found.operation or "an operation",
        made_of="infinities" if found.of_infinities else "finite numbers",
        source=source,
    )
    cause = (
        f"The same numbers are finite in float32: {found.dtype} has overflowed."
        if found.overflow
        else "From there it spreads to the parameters with the next step, and nothing can be learnt any more."
    )
    return Finding(
        Cause.NON_FINITE,
        MOST,
        () if found.batch is None else (Evidence("batch", float(found.batch)),),
        f"{found.kind} appears first {where}. {cause}",
        _advice(found),
    )


def _advice(found: NonFinite) -> str:
    if found.overflow:
        return _OVERFLOWS
    if found.place == "forward" and found.of_infinities:
        return _INFINITIES
    known = _MAKES.get(found.operation or "") if found.place == "forward" else None
    return known or _HEALS[found.place]
