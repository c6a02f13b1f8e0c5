"""Each demo is given the cause it is labelled with."""

import pytest

import unstuck
from unstuck.demos import DEMOS


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_each_demo_is_diagnosed_rightly_and_surely(name):
    diagnosis = unstuck.diagnose(DEMOS[name].setup())
    assert diagnosis.cause is DEMOS[name].cause
    assert diagnosis.confidence > 0.8
