import pytest

from unstuck.curvature.vectors import Room
from unstuck.errors import MeasurementError
from unstuck.measurements.surveys import Limits


def limits(rest, gradient):
    return Limits(left=lambda: 0.0, graphs=0.0, room=Room(1), seed=0, rest=lambda: rest, gradient=gradient)


def test_a_dear_measurement_gets_half_of_the_time_that_is_left():
    limits(rest=20.0, gradient=1.0).claim(10.0)
    with pytest.raises(MeasurementError, match="no time for it: it takes about 11 gradients"):
        limits(rest=20.0, gradient=1.0).claim(11.0)


def test_where_time_is_over_nothing_dear_is_begun():
    with pytest.raises(MeasurementError, match="no time"):
        limits(rest=-1.0, gradient=0.1).claim(1.0)
