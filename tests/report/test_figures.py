import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import RUNS, verdict_of

import unstuck
from unstuck.demos import DEMOS
from unstuck.errors import MeasurementError
from unstuck.measurements.records import Activation
from unstuck.report.figures import FIGURES, available, figure
from unstuck.report.figures.bars import short
from unstuck.report.figures.line import present_step
from unstuck.report.figures.signed_axis import SignedAxis
from unstuck.report.figures.theme import round_numbers
from unstuck.report.units import counted


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
        assert all(axis.title.text for axis in drawn.select_xaxes() if axis.matches is None)
        json.loads(drawn.to_json(), parse_constant=pytest.fail)
        assert all(math.isfinite(number) for number in numbers(json.loads(drawn.to_json())))


def test_an_interrupted_diagnosis_has_what_was_known_and_a_broken_one_nothing(undecided):
    assert available(undecided) == ("descent",)
    assert available(verdict_of("missing value")) == ()


FIRST = {
    "rate too large": ("valley", "rates"),
    "rate too small": ("rates", "line"),
    "softmax twice": ("outputs",),
    "dead units": ("layers",),
    "saturated units": ("layers",),
    "plateau": ("slices", "descent"),
    "vanishing gradient": ("depth", "layers"),
    "frozen body": ("wiring",),
    "lost in rounding": ("precision",),
    "stale scale": ("moments",),
    "sorted classes": ("order",),
    "shuffled labels": ("labels",),
    "learnt by heart": ("validation",),
    "noise": ("rates", "noise"),
    "healthy": ("rates", "course"),
    "valley": ("descent", "line"),
    "saddle": ("descent", "slices"),
}


@pytest.mark.parametrize(("name", "first"), FIRST.items())
def test_the_figure_that_shows_the_cause_comes_first(name, first):
    names = available(verdict_of(name))
    assert names[: len(first)] == first
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def tried():
    return unstuck.diagnose(DEMOS["lecture"].setup(), budget=120.0).verdict


def test_every_figure_is_that_of_some_run(tried):
    shown = {name for run in RUNS for name in available(verdict_of(run))}
    assert shown | set(available(tried)) == set(FIGURES)
    assert available(tried)[0] == "trials"


def test_the_fan_of_the_trials_has_a_curve_for_each_order_and_an_interval_for_each_gain(tried):
    drawn = figure(tried, "trials")
    proved = [trial for trial in tried.trials.tried if trial.gain is not None]
    assert proved
    curves = [trace for trace in drawn.data if trace.xaxis == "x"]
    assert len(curves) == (1 + len(proved)) * (1 + tried.trials.orders)
    intervals = [trace for trace in drawn.data if trace.xaxis == "x2" and trace.mode == "lines"]
    assert [tuple(trace.x) for trace in intervals] == [
        pytest.approx((100 * trial.low, 100 * trial.high)) for trial in proved
    ]


def test_an_unknown_name_is_told_which_names_there_are(saddle, undecided):
    with pytest.raises(
        MeasurementError, match="'spektrum' is not the name of a figure: choose one of descent, "
    ):
        figure(saddle, "spektrum")
    with pytest.raises(MeasurementError, match="'spectrum' was not measured here: choose one of descent"):
        figure(undecided, "spectrum")
    with pytest.raises(MeasurementError, match="'descent' was not measured here: there is none to choose"):
        figure(verdict_of("missing value"), "descent")


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


def test_the_cost_is_compared_with_a_hessian_only_where_that_would_have_cost_more(saddle, minimum, undecided):
    assert "cost" in available(saddle)
    assert undecided.cost.products == 0
    assert "cost" not in available(undecided)
    tiny = dataclasses.replace(minimum, cost=dataclasses.replace(minimum.cost, gradients=98.0))
    subject = dataclasses.replace(tiny.measured.subject, parameters=97)
    tiny = dataclasses.replace(tiny, measured=dataclasses.replace(tiny.measured, subject=subject))
    assert "cost" not in available(tiny)


def bars_of(drawn):
    """Label and length of each bar."""
    return [
        pair for trace in drawn.data if trace.type == "bar" for pair in zip(trace.y, trace.x, strict=True)
    ]


def test_the_bars_of_wiring_are_the_gains_in_percent_of_the_loss():
    verdict = verdict_of("frozen body")
    found, scale = verdict.measured.wiring, verdict.measured.scale
    (_, trained), (_, left_out), *shares = bars_of(figure(verdict, "wiring"))
    assert math.isclose(trained, 100 * found.trained_gain.value / scale)
    assert math.isclose(left_out, 100 * found.excluded_gain.value / scale)
    assert math.isclose(sum(share for _, share in shares), 100.0)


def test_the_floor_of_softmax_twice_is_the_published_one():
    (_, now), (_, built), (_, free) = bars_of(figure(verdict_of("softmax twice"), "outputs"))
    assert math.isclose(built, math.log(math.e + 9) - 1, rel_tol=1e-3)
    assert free < built < now


def test_dead_values_flat_ones_and_the_rest_make_up_each_layer():
    parts = [trace.x for trace in figure(verdict_of("dead units"), "layers").data]
    assert all(math.isclose(sum(shares), 100.0) for shares in zip(*parts, strict=True))
    assert parts[0][1] == 100.0


def test_a_stale_sigma_is_drawn_as_many_times_larger_as_it_is():
    verdict = verdict_of("stale scale")
    (_, sigma), (_, gradient), *_ = bars_of(figure(verdict, "moments"))
    assert gradient == 1.0
    assert math.isclose(sigma, math.exp(verdict.measured.second_moment.ratio.value))


def test_each_way_of_going_on_begins_at_the_same_loss():
    verdict = verdict_of("noise")
    starts = {trace.y[0] for trace in figure(verdict, "rates").data}
    assert starts == {verdict.measured.continuations.going_on.losses[0]}
    assert len(figure(verdict, "rates").data) == len(verdict.measured.continuations.arms)


def test_the_present_step_lands_on_the_other_wall_of_the_valley():
    verdict = verdict_of("rate too large")
    along, full = verdict.measured.route("gradient"), verdict.measured.route("full")
    here, landing, best = figure(verdict, "valley").data[1:]
    assert (here.x[0], here.y[0]) == (0.0, along.losses[0])
    assert (landing.x[0], landing.y[0]) == (1.0, along.losses[0] - full.gain.value)
    assert 0.0 < best.x[0] < 1.0
    assert best.y[0] < min(here.y[0], landing.y[0])


@given(st.floats(-12, 6), st.floats(1, 12))
def test_a_logarithmic_range_of_a_decade_holds_two_labels_at_least_that_are_not_crowded(low, decades):
    labels = [value for value, _ in round_numbers(10**low, 10 ** (low + decades))]
    assert sum(low <= math.log10(value) <= low + decades for value in labels) >= 2
    assert all(after / before > 1.9 for before, after in itertools.pairwise(labels))
    assert len(labels) < 14


def test_half_of_a_batch_of_the_noise_scale_is_signal():
    curve = figure(verdict_of("noise"), "noise").data[1]
    scale = verdict_of("noise").measured.noise.simple.value
    for size, share in zip(curve.x, curve.y, strict=True):
        assert math.isclose(share, 100 / (1 + scale / size))


def test_the_gradient_is_drawn_at_each_place_in_the_order_of_execution():
    verdict = verdict_of("vanishing gradient")
    drawn = figure(verdict, "depth").data[0]
    assert tuple(drawn.y) == tuple(place.gradient for place in verdict.measured.layers.depths)


def test_a_loss_that_explodes_is_drawn_no_further_than_a_browser_can():
    for name in RUNS:
        verdict = verdict_of(name)
        for shown in {"rates", "line"} & set(available(verdict)):
            drawn = figure(verdict, shown)
            if drawn.layout.yaxis.type == "log":
                continue
            low, high = drawn.layout.yaxis.range
            heights = [y for trace in drawn.data for y in trace.y if y is not None]
            assert max(heights) <= high + 10.001 * (high - low), (name, shown)


@pytest.mark.parametrize(
    ("name", "text"),
    [("short", "short"), ("blocks.0.feed_forward_layer.activation.0", "blocks.0.feed_forward_…activation.0")],
)
def test_a_long_name_keeps_both_of_its_ends(name, text):
    assert short(name) == text


def test_uses_of_one_nonlinearity_are_counted_together():
    made = [
        Activation("rnn", "tanh", "bounded", 24, 100, 0.0, share, share, 0.5, 0.0, passed=share)
        for share in (0.2, 0.4)
    ]
    (units,) = counted(made)
    assert units.label == "tanh after rnn (2 uses)"
    assert math.isclose(units.flat, 0.3)
    assert units.passed == 0.2
