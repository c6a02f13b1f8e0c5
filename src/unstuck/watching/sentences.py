"""What is said of a run while it goes on, beside findings."""

from unstuck.watching.losses.stalls import Moving, Stall

# What is gained by less than this share of the level is worth saying how little it is.
_SLOW = 0.02

NO_WAY_DOWN = (
    "not sure why: no way down was seen, along the gradient, corrected for curvature, or along negative curvature. "
    "It may be a minimum; `unstuck diagnose` certifies it"
)
TOO_SHORT = (
    "not sure why: the run ended before there was time for a look at its live graph, which may take no more than its "
    "share; `--share 0.1` (or `share=0.1`) lets it look sooner"
)
TOO_HIGH = (
    "since step {:,} the loss has never been as low as it began, at {:.4g}, and mostly it is more than twice that. "
    "Unless it is the loss of something else by now, the steps are too large: lower the learning rate"
)
PILED = (
    "the gradients are not set to zero between steps, so that each step goes along the sum of all that there were: "
    "call optimizer.zero_grad() before loss.backward(), inside of the closure if there is one"
)
BY_PILES = f"not sure of more than what holds it up: {PILED}"
SHIFTED = (
    "between steps the weights are moved by something else than the optimizer, half as far as by a step and more: "
    "where averages are copied back, weights clamped or loaded again, steps do not add up"
)
ELSEWHERE = (
    "the loss rises since step {:,}, though the steps lead down where they end: it becomes the loss of something "
    "else, as where its targets, its weights or its data change, or the returns of an agent grow"
)
IN_BURSTS = (
    "since step {:,} the loss has broken out {} times: mostly it is {:.2g}, and again and again, for several steps "
    "on end, more than ten times that and more than twice what it began with; {:.0f} % of its mean comes from there. "
    "Steps that are too large along one direction do so: lower the learning rate. So may data that come in an "
    "order, or change"
)
SHRUNK = (
    ". The weights have come down to {:.2g} % of the length they began with, as where weight decay, or a penalty on "
    "them, is too strong for what there is to learn"
)
STOOD_LOWER = (
    ". Around step {:,} the loss stood at {:.4g}: unless it has become the loss of something else since, steps that "
    "were too large have led away from there. Go back to weights of that time, with a lower learning rate"
)
STANDS_HIGHER = (
    "around step {:,} the loss stood at {:.4g}, and in the last eighth of the steps it has always been more than "
    "twice that: unless it has become the loss of something else since, steps that were too large have led away from "
    "there. Go back to weights of that time, with a lower learning rate"
)
TWIN = (
    "two optimizers have the very same parameters, and none has {}, which the losses depend on too: one of the two "
    "may have been meant for these"
)
WITHDRAWN = "{}: by what is known now this is not a reason any more"
NOT_SURE = "not sure why; `unstuck diagnose` takes a training apart and tries remedies"


def stands_still(stall: Stall, level: float) -> str:
    """Say since when the loss stands still, and at which level."""
    how = f"it rises, of late to {level:.4g}" if stall.rising else f"it stays at {level:.4g}"
    return f"the loss has stopped improving since step {stall.since:,}: {how}"


def learnt(stall: Stall, level: float) -> str:
    """Say that the loss stands still for there is nothing left of it."""
    return f"the loss is down to {level:.2g} since step {stall.since:,}: there is nothing left to gain"


def moves(moving: Moving, level: float, stall: Stall | None) -> str:
    """Say that the loss falls again, and if it has fallen next to nothing since it stood still."""
    message = f"the loss improves again since step {moving.since:,}: it is at {level:.4g}"
    if stall is None or not 0.0 < stall.level - moving.level < _SLOW * abs(stall.level):
        return message
    fallen = 100 * (stall.level - moving.level) / abs(stall.level)
    return f"{message}, only {fallen:.2g} % below where it stood"
