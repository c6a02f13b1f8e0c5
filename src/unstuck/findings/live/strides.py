"""How far steps go, against what bounds them: the loss that is there to lose, and the weights that they change."""

from unstuck.findings.live.logged import SURE, UNSEEN, leads_down, step_share
from unstuck.findings.phrases import confidence, figure
from unstuck.findings.records import Cause, Evidence, Finding
from unstuck.measurements.records.live import Look, Recent

# No loss of a batch that is never negative falls by more than itself. If it is quadratic along a step of slope -D,
# its curvature is D^2 / 2L at the least, and the step D / 2L times too long: at 4 it ends no lower than it began.
PROMISES = 4.0

# Ten steps, each of a tenth of the weights' length, leave nothing of the weights that a run began with; nor do steps
# that make them ten times as long. Where one is half as long as they are, these may have begun at zero, or be hardly
# more, unless that is known.
REPLACES, FROM_ZERO = 0.1, 0.5

# A loss above this share of where it began has learnt nothing.
NOTHING_LEARNT = 0.9

_SMALLER = "Lower the learning rate, tenfold and more"


def overreaching(recent: Recent, _look: Look | None = None) -> Finding | None:
    """A step promises several times the whole loss, of a loss that is never negative."""
    descent, level = recent.descent, recent.level
    if (
        descent is None
        or recent.lowest is None
        or recent.lowest < 0.0
        or not 0.0 < PROMISES * level < descent
    ):
        return None
    times = descent / level
    return Finding(
        Cause.STEP_TOO_LARGE,
        min(confidence(times, PROMISES), SURE),
        (Evidence("promise", times), *step_share(recent)),
        f"By the slope where it begins, a step would gain {figure(times)} times all the loss that there is. "
        "So the loss bends far more than such a step allows for, even on the step's own batch: it is about "
        f"{figure(times / 2)} times too long and jumps across the valley.",
        f"{_SMALLER}; clip the gradient.",
    )


def thrown(recent: Recent) -> Finding | None:
    """The steps have left nothing of the weights that the run began with, and nothing has been learnt since.

    What stands in its way now may be anything: it is asked where nothing else is found.
    """
    first, began, grown = recent.first_share, recent.began, recent.grown
    if first is None or (first > FROM_ZERO and not recent.remade) or began is None or leads_down(recent):
        return None
    if not 0.0 < NOTHING_LEARNT * began < recent.level:
        return None
    if first >= REPLACES:
        evidence = Evidence("first_step_share", first)
        seen = (
            f"At the beginning each step changed the weights by {100 * first:.2g} % of their length, so that a "
            "few of them left nothing of what they were initialised to"
        )
    elif grown is not None and grown >= 1.0 / REPLACES:
        evidence = Evidence("weights_grown", grown)
        seen = (
            f"Before the loss stood still the steps had made the weights {figure(grown)} times as long as they were "
            "at the beginning, so that next to nothing was left of what they were initialised to"
        )
    else:
        return None
    return Finding(
        Cause.STEP_TOO_LARGE,
        UNSEEN,
        (evidence,),
        f"{seen}; and nothing has been learnt since. Where the run is now smaller steps alone may not lead it back.",
        f"Begin anew. {_SMALLER}; warm it up.",
    )
