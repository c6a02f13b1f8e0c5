"""A recorded past: read strictly, summed up with its errors, used where the present leaves a question open."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unstuck
from unstuck import History, Training, supervised
from unstuck.demos import DEMOS
from unstuck.errors import MeasurementError, TrainingError
from unstuck.measurements.past import measure_past

diagnose = partial(unstuck.diagnose, trials=False)


def noise(count, seed=0, scale=0.1):
    return [scale * float(x) for x in torch.randn(count, generator=torch.Generator().manual_seed(seed))]


def falling_until(stop, count=1000, seed=0):
    return [3.0 - 2.0 * min(step, stop) / stop + error for step, error in enumerate(noise(count, seed))]


@pytest.mark.parametrize("stop", [200, 500, 800])
def test_it_is_known_since_when_the_loss_stands_still(stop):
    past = measure_past(History(falling_until(stop)))
    assert past.improved == pytest.approx(stop, abs=75)
    assert past.last == 999


def test_the_pace_is_the_slope_of_the_last_half_and_its_error_covers_the_noise():
    falls = measure_past(History(falling_until(1000)))
    assert falls.pace.value == pytest.approx(2e-3, rel=0.1)
    assert falls.pace.surely_above(0.0)
    stands = [measure_past(History(falling_until(100, seed=seed))) for seed in range(100)]
    assert sum(past.pace.surely_above(0.0) for past in stands) <= 2


def test_autocorrelated_noise_is_not_taken_for_progress():
    alarms = 0
    for seed in range(100):
        level, losses = 0.0, []
        for error in noise(2000, seed):
            level = 0.95 * level + error
            losses.append(1.0 + level)
        alarms += measure_past(History(losses)).pace.surely_above(0.0)
    assert alarms <= 5


def test_everything_else_that_was_recorded_is_summed_up():
    losses = [*falling_until(50, 100), math.nan]
    norms = [1.0] * 50 + [400.0] + [2.0] * 50
    rates = [0.1] * 90 + [1e-4] * 11
    held = [None if step % 10 else 1.0 + 0.01 * abs(step - 30) for step in range(101)]
    past = measure_past(History(losses, gradient_norm=norms, learning_rate=rates, validation_loss=held))
    assert past.not_finite == 100
    assert past.gradient_peak == pytest.approx(200.0)
    assert past.rate_share == pytest.approx(1e-3)
    assert past.validation_best == 30
    assert past.validation_rise == pytest.approx(0.7)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.none(), st.floats(width=32)), max_size=60))
def test_whatever_was_recorded_there_is_a_sum_or_a_reason(losses):
    try:
        past = measure_past(History(losses))
    except MeasurementError as error:
        assert "are needed" in str(error)  # noqa: PT017  # one or the other
    else:
        assert past.first <= past.last
        assert math.isfinite(past.pace.value)


def test_a_file_is_read(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("epoch,step,loss,gradient_norm\n0,10,2.5,1\n0,20,2.25,\n1,30,nan,3\n")
    history = History.read(file)
    assert history.steps == (10.0, 20.0, 30.0)
    assert history.loss[:2] == [2.5, 2.25]
    assert math.isnan(history.loss[2])
    assert history.gradient_norm == [1.0, None, 3.0]
    assert history.learning_rate is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column `loss`: it has nothing below its header"),
        ("train,lr\n1,2\n", "has no column `loss`: it has train, lr"),
        ("loss\n1\nlow\n", "line 3: `loss` must be a number, not 'low'"),
        ("step,loss\n2,1\n1,1\n", "`step` must ascend"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, text, message):
    file = tmp_path / "log.csv"
    file.write_text(text)
    with pytest.raises(TrainingError, match=message) as raised:
        History.read(file)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"cannot read .*none\.csv"):
        History.read(tmp_path / "none.csv")


def test_fields_of_different_length_are_refused():
    with pytest.raises(TrainingError, match="`gradient_norm` has 1 entries and `loss` 2"):
        History([1.0, 2.0], gradient_norm=[1.0])


def stuck() -> Training:
    return DEMOS["lecture"].setup()


def test_a_diagnosis_says_since_when_and_shows_it():
    diagnosis = diagnose(stuck(), history=History(falling_until(300), gradient_norm=[1.0] * 1000))
    assert any("has not fallen since step" in note for note in diagnosis.verdict.notes)
    assert len(diagnosis.figure("past").data) == 2
    assert '"past": {' in diagnosis.to_json()


def test_a_history_that_is_too_short_is_left_out_with_a_reason():
    omitted = diagnose(stuck(), history=History([1.0])).verdict.measured.omitted
    assert any(one.name == "past" and "16 are needed" in one.reason for one in omitted)


def test_a_nan_on_record_is_dated():
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, math.nan)
    data = [(torch.ones(4, 2), torch.ones(4, 1))]
    training = Training(model, supervised(torch.nn.functional.mse_loss), data)
    diagnosis = diagnose(training, history=History([1.0] * 40 + [math.nan]))
    assert any("first at step 40" in note for note in diagnosis.verdict.notes)
