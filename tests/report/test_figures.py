import json
import math

import pytest

from unstuck.errors import MeasurementError
from unstuck.report.figures import FIGURES, available, figure
from unstuck.report.figures.line import present_step
from unstuck.report.figures.signed_axis import SignedAxis


def numbers(value):
    """Every number inside a document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


def test_each_figure_draws_what_was_measured_with_titles_and_labelled_axes(verdict):
    for name in available(verdict):
        drawn = figure(verdict, name)
        assert len(drawn.data) > 0
        assert drawn.layout.title.text
        assert any(axis.title.text for axis in drawn.select_xaxes())
        json.loads(drawn.to_json(), parse_constant=pytest.fail)
        assert all(math.isfinite(number) for number in numbers(json.loads(drawn.to_json())))


def test_a_full_diagnosis_has_every_figure_and_an_interrupted_one_its_cost(saddle, undecided):
    assert available(saddle) == tuple(FIGURES)
    assert available(undecided) == ("descent", "cost")


def test_an_unknown_name_is_told_which_names_there_are(saddle, undecided):
    with pytest.raises(
        MeasurementError, match="'spektrum' is not the name of a figure: choose one of descent, "
    ):
        figure(saddle, "spektrum")
    with pytest.raises(
        MeasurementError, match="'spectrum' was not measured here: choose one of descent, cost"
    ):
        figure(undecided, "spectrum")


def test_the_parts_of_a_gain_add_up_to_it(saddle):
    slope, curvature, rises = (trace.x for trace in figure(saddle, "descent").data[:3])
    for way, *parts in zip(saddle.measured.routes, slope, curvature, rises, strict=True):
        assert math.isclose(sum(parts), 100 * way.gain.value / saddle.measured.scale, abs_tol=1e-9)


def test_a_gain_of_nothing_has_no_bar_to_speak_of(minimum):
    drawn = figure(minimum, "descent")
    low, high = drawn.layout.xaxis.range
    assert all(abs(value) < 1e-4 * (high - low) for trace in drawn.data[:3] for value in trace.x)


def test_a_loss_that_explodes_does_not_push_the_gains_out_of_sight(valley):
    low, high = figure(valley, "descent").layout.xaxis.range
    assert -0.5 * high <= low < 0


def test_the_histogram_counts_every_eigenvalue_once_in_its_zone(minimum):
    down, flat, up = (sum(value or 0 for value in trace.y) for trace in figure(minimum, "spectrum").data[:3])
    nodes, limit = minimum.measured.spectrum.density.nodes, 1e-3 * minimum.measured.spectrum.radius
    assert down == 0
    assert math.isclose(flat, sum(abs(node) < limit for node in nodes))
    assert math.isclose(up, sum(node >= limit for node in nodes))


def test_the_quadratic_model_is_drawn_dashed_beside_the_real_loss(saddle):
    model, real, here = figure(saddle, "slices").data[:3]
    lowest = saddle.measured.slice("lowest")
    assert model.line.dash == "dash"
    assert tuple(model.y) == lowest.model
    assert tuple(real.y) == lowest.losses
    assert (here.x, here.y) == ((0.0,), (2.3026,))


def test_the_present_step_is_the_one_that_the_gradients_route_was_compared_with(valley):
    gradient = valley.measured.route("gradient")
    assert present_step(valley) == gradient.distance / gradient.multiple
    assert present_step(valley) in (0.11, pytest.approx(0.11, rel=0.01))


def test_a_signed_axis_shows_both_signs_and_inverts():
    axis = SignedAxis(1e-3)
    for value in (-5.0, -1e-4, 0.0, 2e-3, 300.0):
        assert math.isclose(axis.value(axis.at(value)), value, rel_tol=1e-9, abs_tol=1e-15)
    positions, labels = axis.ticks(-0.5, 20.0)
    assert positions == sorted(positions)
    assert "0" in labels
    assert "\u22120.1" in labels
    assert "10" in labels
