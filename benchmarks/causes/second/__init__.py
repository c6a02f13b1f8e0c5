"""The second half: what a stranger would bring, whose data and habits are not those of the first."""

from benchmarks.causes.case import Case
from benchmarks.causes.second import critical, healthy, meaning, state, steps, units

CASES: tuple[Case, ...] = (
    *healthy.CASES,
    *critical.CASES,
    *steps.CASES,
    *units.CASES,
    *state.CASES,
    *meaning.CASES,
)
