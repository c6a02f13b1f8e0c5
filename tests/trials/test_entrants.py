"""Which of the remedies in the race are proved."""

import math

import pytest

from unstuck.findings.records import Cause
from unstuck.remedies.treatment import Treatment
from unstuck.trials.entrants import Entrant, to_prove


def entrant(name, end, change="", *, treats=()):
    treatment = Treatment(name, frozenset(treats), change, (), "", lambda _: None)
    return Entrant(treatment, None, [], end)


def proved(entrants, *, going_on=1.0, cause=None, most=3):
    return [
        (each.treatment.name, each.treatment.change) for each in to_prove(entrants, going_on, cause, most)
    ]


@pytest.mark.parametrize(
    ("ends", "chosen"),
    [((0.2, 0.1), "first"), ((0.5, 0.1), "second"), ((1.2, 1.1), "second"), ((math.inf, 0.1), "second")],
)
def test_of_variants_that_gain_about_as_much_the_one_that_was_proposed_first_is_proved(ends, chosen):
    variants = [
        entrant("larger-step", end, change) for end, change in zip(ends, ("first", "second"), strict=True)
    ]
    assert proved(variants) == [("larger-step", chosen)]
    other = next(each for each in variants if each.treatment.change != chosen)
    assert "another variant" in other.given_up


def test_where_going_on_leads_nowhere_the_best_variant_is_proved():
    variants = [entrant("begin-anew", 0.5, "first"), entrant("begin-anew", 0.1, "second")]
    assert proved(variants, going_on=math.inf) == [("begin-anew", "second")]


def test_what_treats_the_cause_is_proved_and_the_best_others():
    names = ("a", "b", "c", "d")
    entrants = [entrant(name, 0.1 * number) for number, name in enumerate(names)]
    entrants.append(entrant("aimed", 0.9, treats=[Cause.STEP_TOO_SMALL]))
    assert [name for name, _ in proved(entrants, cause=Cause.STEP_TOO_SMALL)] == ["aimed", "a", "b"]
    assert "not among the best" in entrants[2].given_up
    assert [name for name, _ in proved(entrants[:2] + entrants[-1:], cause=None, most=1)] == ["a"]
    assert "no time" in entrants[1].given_up
