"""Remedies in the race, and which of them are proved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.findings.progress import ABOUT_EQUAL
from unstuck.findings.records import Cause
from unstuck.remedies.treatment import Treatment
from unstuck.trials.course import Course, Ended
from unstuck.trials.planning import PROVED

NO_TIME = "there was no time for the proof"
_BEHIND = "not among the best at the end of the first order"
_VARIANT = "it gains hardly more than another variant, or less"


@dataclass
class Entrant:
    """A remedy in the race.

    Attributes:
        course: The one of the screening, until it has ended; None too where its end is remembered.
        ended: One for each order, that of the screening first.
        end: The loss that it has come to on the first order: of the held batches, or of the validation data.
        given_up: Why it goes no further, or "".
    """

    treatment: Treatment
    course: Course | None
    ended: list[Ended]
    end: float
    given_up: str = ""

    def addresses(self, cause: Cause | None) -> bool:
        """Whether it treats the cause that was found."""
        return cause in self.treatment.treats


def to_prove(entrants: Sequence[Entrant], going_on: float, cause: Cause | None, most: int) -> list[Entrant]:
    """Choose one variant of each remedy; of those the best that treats the cause, and the best others.

    Args:
        entrants: In the order in which they were proposed.
        going_on: The loss that going on as before has come to.
        cause: That was found.
        most: How many there is time for; why the rest is given up is written down.
    """
    finished = [each for each in entrants if not each.given_up]
    variants = {
        each.treatment.name: [one for one in finished if one.treatment.name == each.treatment.name]
        for each in finished
    }
    best = sorted((_variant(each, going_on) for each in variants.values()), key=lambda each: each.end)
    first = [entrant for entrant in best if entrant.addresses(cause)][:1]
    chosen = (first + [entrant for entrant in best if entrant not in first])[:PROVED]
    names = {each.treatment.name for each in chosen}
    for entrant in finished:
        if entrant not in chosen:
            entrant.given_up = _VARIANT if entrant.treatment.name in names else _BEHIND
    for entrant in chosen[most:]:
        entrant.given_up = NO_TIME
    return chosen[:most]


def _variant(variants: Sequence[Entrant], going_on: float) -> Entrant:
    """Of those that gain about as much as the best the first proposed, for which the measurements speak."""
    best = min(each.end for each in variants)
    gained = going_on - best
    enough = going_on - ABOUT_EQUAL * gained if 0.0 < gained < math.inf else best
    return next(each for each in variants if each.end <= enough)
