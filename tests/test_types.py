"""Every command from end to end, once, with the types and shapes of all arguments checked at every call."""

import jaxtyping
import pytest

import unstuck
from unstuck.demos import DEMOS

COMMANDS = {
    "sharpness": unstuck.sharpness,
    "surface": unstuck.surface,
    "spectrum": unstuck.spectrum,
    "batch_size": unstuck.batch_size,
}


@pytest.fixture(autouse=True)
def _checked():
    assert not jaxtyping.config.jaxtyping_disable


def told_in_every_form(answer):
    assert str(answer)
    assert answer.to_html().startswith("<!DOCTYPE html>")
    assert answer.to_json().startswith("{")


def test_a_diagnosis_with_its_trials_and_the_treatment():
    training = DEMOS["saddle"].setup()
    diagnosis = unstuck.diagnose(training, budget=120.0)
    told_in_every_form(diagnosis)
    assert diagnosis.verdict.trials is not None
    assert unstuck.treat(training, diagnosis).remedy


def test_an_escape():
    assert str(unstuck.escape(DEMOS["lecture"].setup(), budget=120.0))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_other_answers(command):
    told_in_every_form(COMMANDS[command](DEMOS["valley"].setup(), budget=15.0))
