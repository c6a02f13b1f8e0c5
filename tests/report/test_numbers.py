import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.estimate import Estimate
from unstuck.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0421, "-0.0421"),
        (2.0, "2.00"),
        (0.99999, "1.00"),
        (12_345.6, "12,300"),
        (1.234e-7, "1.23e-7"),
        (-4.5e12, "-4.50e12"),
        (math.nan, "not a number"),
        (-math.inf, "-infinite"),
        (None, "not measured"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (-0.49712, 0.0213, "-0.497 ± 0.021"),
        (23.14, 0.45, "23.1 ± 0.45"),
        (2.3026, 1.2, "2.3 ± 1.2"),
        (2.3026, 0.0, "2.30 ± 0"),
        (2.3026, 2e-15, "2.30 ± 0"),
        (1e-9, 0.002, "0 ± 0.0020"),
        (0.9, math.inf, "0.900 ± ?"),
        (math.nan, math.nan, "not a number"),
    ],
)
def test_a_value_is_written_no_finer_than_its_error(value, stderr, text):
    assert numbers.with_error(Estimate(value, stderr)) == text


@pytest.mark.parametrize(
    ("share", "stderr", "text"),
    [
        (3e-6, 2e-6, "under 0.001"),
        (-0.0000121, 0.0000055, "-0.00121 ± 0.00055"),
        (0.458, 6.7e-7, "45.8 ± 0"),
        (0.135, 0.0061, "13.5 ± 0.61"),
        (0.2, math.inf, "20.0 ± ?"),
    ],
)
def test_a_gain_in_percent_hides_only_what_does_not_count(share, stderr, text):
    assert numbers.gain(Estimate(share, stderr)) == text


@given(st.floats(-1e300, 1e300))
def test_a_written_number_reads_back_within_half_a_percent(value):
    shown = float(numbers.significant(value).replace(",", ""))
    assert math.isclose(shown, value, rel_tol=0.00501, abs_tol=5e-324)


@given(st.floats(), st.floats(min_value=0))
def test_any_estimate_can_be_written(value, stderr):
    assert numbers.with_error(Estimate(value, stderr))
    assert numbers.gain(Estimate(value, stderr))


@given(st.floats(0, 1, exclude_max=True))
def test_a_probability_below_one_is_never_called_certain(value):
    assert numbers.probability(value) != "100 %"


def test_units_are_those_people_use():
    assert [numbers.seconds(value) for value in (0.045, 1.24, 200.0, 7500.0)] == [
        "45 ms",
        "1.2 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [numbers.memory(value) for value in (310e6, 4.2e9, 12)] == ["310 MB", "4.2 GB", "12 B"]
    assert [numbers.count(value, "gradient") for value in (1.0, 41.0, 2.5, 63.5)] == [
        "1 gradient",
        "41 gradients",
        "2.5 gradients",
        "64 gradients",
    ]
    assert [numbers.percent(value) for value in (0.001, 0.1214, 1.0, 1.23e-9)] == [
        "0.1 %",
        "12.1 %",
        "100 %",
        "1.23e-7 %",
    ]


@pytest.mark.parametrize(
    ("batches", "draws", "told"),
    [
        (15, 1, "600 examples in 15 batches"),
        (30, 2, "300 examples in 15 batches, each looked at under 2 draws of the randomness"),
        (16, 16, "37 examples in 1 batch, looked at under 16 draws of the randomness"),
    ],
)
def test_examples_that_come_several_times_are_counted_once(batches, draws, told):
    assert numbers.sampled(600, batches, draws) == told
