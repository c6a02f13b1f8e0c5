"""Each demo is given the cause it is labelled with."""

import pytest

import unstuck
from unstuck.demos import DEMOS


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_each_demo_is_diagnosed_rightly_and_surely(name):
    # Time enough, so that the size of the sample does not hang on how busy the machine is.
    diagnosis = unstuck.diagnose(DEMOS[name].setup(), budget=600.0, trials=False)
    assert diagnosis.cause is DEMOS[name].cause
    assert diagnosis.confidence > 0.8
