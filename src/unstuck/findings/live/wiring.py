"""What the record of a live run says of parameters that are not trained."""

from unstuck.findings.live.logged import SURE
from unstuck.findings.phrases import named
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# Stands for the names of all parameters of an optimizer where the model that they belong to is not there.
ORPHANS = ("*",)

ERASED = (
    "gradients come with the backward pass, and are gone when the optimizer steps: zero_grad() is called between "
    "backward() and step(), or they are clipped to nothing"
)
BEFORE_BACKWARD = "Call optimizer.zero_grad() before loss.backward(), or after optimizer.step()."


def frozen_parameters(recent: Recent, _look: Look | None) -> Finding | None:
    """Parameters that should be trained are in no optimizer, or no gradient comes to them."""
    if recent.erased:
        return Finding(Cause.FROZEN_PARAMETERS, SURE, (), f"Nothing is trained: {ERASED}.", BEFORE_BACKWARD)
    left = untrained(recent)
    if not left:
        return None
    return Finding(
        Cause.FROZEN_PARAMETERS,
        max(0.5, min(recent.left_out, SURE)),
        (Evidence("excluded_share", recent.left_out),),
        f"{left}.",
        _rewired(recent),
    )


def _rewired(recent: Recent) -> str:
    if recent.unregistered:
        return (
            f"Make {named(recent.unregistered)} an nn.ModuleList or nn.ModuleDict (of parameters, an "
            "nn.ParameterList), so that parameters() gives them to the optimizer, and state_dict() keeps them."
        )
    if recent.stepped:
        return (
            f"Let gradients pass through {_ends(recent)} as if it were not there (straight-through: "
            "x + (f(x) - x).detach()), or use a smooth function in the training."
        )
    return (
        "Give the optimizer the parameters of this very model; between them and the loss, remove the .detach() or "
        "torch.no_grad(), or put something smooth in the place of a comparison or an argmax; or set "
        "requires_grad=False where it is meant."
    )


def _ends(recent: Recent) -> str:
    return " and ".join(f"`{name}`" for name in recent.ends)


def untrained(recent: Recent) -> str:
    """Say which parameters are not trained, and why; nothing if all are."""
    if recent.unreached == ORPHANS:
        return (
            "No gradient comes to any of the parameters that the optimizer has: they are not those that the loss "
            "depends on, but those of another model, of an earlier one, or of a layer that has been replaced since"
        )
    parts = [
        f"{named(names)} {'is' if len(names) == 1 else 'are'} {why}"
        for names, why in (
            (recent.unlisted, "in no optimizer"),
            (recent.unreached, "cut off from the loss, so that no gradient comes to them"),
            (
                recent.stepped,
                f"behind {_ends(recent)}, whose derivative is zero, so that no gradient comes to them",
            ),
        )
        if names
    ]
    if not parts:
        return ""
    kept = (
        f" ({named(recent.unregistered)}: kept in a plain list or dictionary, the model does not know of them)"
        if recent.unregistered
        else ""
    )
    return (
        f"{100 * recent.left_out:.3g} % of the trainable parameters are not trained: {'; '.join(parts)}{kept}"
    )
