"""A loss that stays above where it began is told; healthy ones, however wild, are not."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.watching.losses.heights import FIRST, Beginning, Heights

laws = settings(deadline=None, derandomize=True)


def told(losses):
    heights = Heights()
    return [high for high in map(heights.add, losses) if high is not None]


def test_a_loss_that_was_thrown_up_and_jumps_over_decades_is_told_with_where_it_began():
    rng = np.random.default_rng(0)
    losses = [1.08, *np.exp(rng.normal(5.0, 1.0, 400)).tolist()]
    (high,) = told(losses)
    assert (high.since, high.began) == (FIRST // 2 + 1, 1.08)


def test_a_first_loss_that_is_low_by_chance_is_rarely_taken_for_the_level_it_began_at(unchecked):
    rng = np.random.default_rng(1)
    alarms = sum(bool(told(np.abs(rng.standard_cauchy(2048)).tolist())) for _ in range(1000))
    assert alarms <= 20


@laws
@given(
    st.lists(st.floats(0.01, 1e6), min_size=FIRST - 1, max_size=FIRST - 1), st.integers(FIRST // 2, FIRST - 1)
)
def test_one_loss_as_low_as_the_first_in_the_last_half_is_enough_to_say_nothing(rest, place):
    losses = [1.0, *rest]
    losses[place] = 1.0
    assert told(losses) == []


def test_a_rise_to_less_than_twice_and_a_loss_below_zero_say_nothing():
    assert told([1.0] + [1.9] * 1000) == []
    assert told([-1.0] + [5.0] * 1000) == []
    assert told([math.inf] + [5.0] * 1000) == []


def test_a_run_that_leaves_its_beginning_later_is_told_when_half_of_it_is_above():
    assert told([1.0] * 300 + [5.0] * 600) == []
    (high,) = told([1.0] * 300 + [5.0] * 900)
    assert high.since == 513


def begun(losses):
    beginning = Beginning(losses[0])
    for loss in losses[1:]:
        beginning.add(loss)
    return beginning.value


def test_a_loss_that_became_another_began_where_it_did():
    assert begun([2e10] * 30 + [1.0] * 60) == 1.0


def test_a_loss_that_is_learnt_however_fast_or_jumps_about_began_at_its_first():
    assert begun([2.0 * 0.05**step for step in range(40)]) == 2.0
    assert begun([2.0, *[1e5] * 3, *[2.5] * 40]) == 2.0
    assert begun([2.0, 1.5, 1e-4] * 40) == 2.0
    assert begun([2.0] * 20 + [1e-4] + [2.0] * 20) == 2.0
