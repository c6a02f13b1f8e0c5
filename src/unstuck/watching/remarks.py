"""What the record bears out beside causes: what holds a run up, and what is said where no cause is named."""

from unstuck.findings.live.logged import BOTH_CLASSES, LOGITS, ONE_BY_ONE
from unstuck.findings.live.verdict import no_way_down
from unstuck.findings.live.wiring import ERASED, untrained
from unstuck.measurements.records.live import Look, Recent
from unstuck.watching.sentences import (
    BY_PILES,
    NO_WAY_DOWN,
    NOT_SURE,
    PILED,
    SHIFTED,
    SHRUNK,
    STOOD_LOWER,
    TOO_SHORT,
)

# Weights that have come down to this share of their length are nearly gone.
NOTHING = 0.1


def hindering(known: Recent, *, piled: bool, certain: bool) -> list[tuple[str, str, bool | float]]:
    """What the record says of how the loss is made and the steps are: a word, a sentence, how much of it.

    Args:
        known: What is known of the run.
        piled: Whether gradients pile up.
        certain: Whether it is certain by now which parameters gradients come to.
    """
    said = (
        ("piled", PILED if piled else "", True),
        ("shifted", SHIFTED if known.shifted else "", True),
        ("twice", known.twice and f"{known.twice}. {LOGITS}", True),
        ("crossed", known.crossed and f"{known.crossed}. {ONE_BY_ONE}", True),
        ("alone", known.alone and f"{known.alone}. {BOTH_CLASSES}", True),
        ("erased", ERASED if known.erased else "", True),
        ("left_out", untrained(known) if certain and not known.erased else "", known.left_out),
    )
    return [one for one in said if one[1]]


def unsure(
    known: Recent, look: Look | None, *, waiting: bool, shrunk: float, before: tuple[int, float] | None
) -> str:
    """What is said where no cause is named.

    Args:
        known: What is known of the run.
        look: The last look at its live graph.
        waiting: Whether there may be looks, and was no time for one.
        shrunk: The length of the weights over what it was at first.
        before: Around which step the loss surely stood lower, and where.
    """
    if known.piled:
        return BY_PILES
    if look is None and waiting:
        return TOO_SHORT
    lower = STOOD_LOWER.format(*before) if before else ""
    if not no_way_down(known, look):
        return NOT_SURE + lower
    return NO_WAY_DOWN + (SHRUNK.format(100 * shrunk) if shrunk < NOTHING else lower)
