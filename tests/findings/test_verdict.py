import math
from dataclasses import replace

import pytest
from handmade import (
    COST,
    SUBJECT,
    anything,
    arm,
    arms,
    continued,
    line,
    measurements,
    planted,
    route,
    spectrum,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.estimate import Estimate
from unstuck.findings.phrases import figure
from unstuck.findings.progress import ahead, falls
from unstuck.findings.records import Cause, Kind
from unstuck.findings.verdict import EXPLAINS, NAMED, conclude, explained
from unstuck.measurements.records import (
    Continuations,
    Gradient,
    Labels,
    Layers,
    Noise,
    ParameterScale,
    Slice,
    Stability,
)
from unstuck.measurements.records.layers import Activation
from unstuck.measurements.records.outputs import Outputs
from unstuck.measurements.records.sight import Sight
from unstuck.measurements.records.updates import Excluded, SecondMoment, Wiring
from unstuck.report.document import to_json

# beartype looks at random members of tuples while Hypothesis builds the records.
laws = settings(deadline=None, derandomize=True, max_examples=40)
CRITICAL = {
    Kind.SADDLE,
    Kind.MINIMUM,
    Kind.DEGENERATE_MINIMUM,
    Kind.MAXIMUM,
    Kind.PLATEAU,
    Kind.GRADIENT_FLAT,
}
MINIMA = {Kind.MINIMUM, Kind.DEGENERATE_MINIMUM}


@pytest.mark.parametrize(
    ("row", "kind", "cause"),
    [
        ("saddle", Kind.SADDLE, Cause.SADDLE_POINT),
        ("saddle with slope", Kind.SADDLE, Cause.SADDLE_POINT),
        ("maximum", Kind.MAXIMUM, Cause.LOCAL_MAXIMUM),
        ("minimum", Kind.MINIMUM, Cause.LOCAL_MINIMUM),
        ("degenerate minimum", Kind.DEGENERATE_MINIMUM, Cause.LOCAL_MINIMUM),
        ("plateau", Kind.PLATEAU, Cause.PLATEAU),
        ("curvature that leads nowhere", Kind.PLATEAU, Cause.PLATEAU),
        ("leaps on flat ground", Kind.PLATEAU, Cause.PLATEAU),
        ("gradient-flat", Kind.GRADIENT_FLAT, Cause.PLATEAU),
        ("not critical", Kind.NOT_CRITICAL, None),
        ("in between", Kind.UNDECIDED, None),
    ],
)
def test_each_row_of_the_decision_table_holds(row, kind, cause):
    verdict = conclude(planted(row), COST)
    assert verdict.point.kind is kind
    assert verdict.cause is cause


def test_where_the_schedule_changes_the_rate_meanwhile_it_is_said_to_what():
    found = continued(0.3)
    texts = [
        ahead(replace(planted("not critical"), continuations=replace(found, arms=(replace(arm, led=led),))))
        for arm in found.arms
        for led in (1.0, 40.0)
    ]
    assert "schedule" not in texts[0]
    assert "raises the learning rate 40 times, gain" in texts[1]


def cut_short(going_on, along, multiple, *, stderr=0.02, others=()):
    """Three batches judge, and the time was over before other rates came to their turn."""
    few = Estimate(along, stderr, 2.0)
    first = arm(gain=going_on)
    wide = 0.4 * abs(going_on)
    first = replace(first, gain=Estimate(going_on, wide, 2.0), trend=Estimate(0.5 * going_on, wide, 2.0))
    line_ = replace(route("gradient", along, along), gain=few, multiple=multiple)
    return replace(
        measurements((line_, replace(line_, name="krylov")), None, ()),
        continuations=Continuations((first, *others), 1.0),
        complete=False,
    )


@pytest.mark.parametrize(
    ("going_on", "along", "multiple", "suspicion"),
    [
        (0.4, 0.3, 0.5, Cause.HEALTHY),
        (0.0001, 0.09, 4000.0, Cause.STEP_TOO_SMALL),
        (-0.03, 0.15, 0.05, Cause.STEP_TOO_LARGE),
        (0.0001, 0.09, 2.0, None),  # steps of about the right length
        (0.0001, 0.03, 4000.0, None),  # within two errors of nothing
    ],
)
def test_what_was_cut_short_says_what_it_speaks_for_and_names_no_cause(going_on, along, multiple, suspicion):
    verdict = conclude(cut_short(going_on, along, multiple), COST)
    assert verdict.cause is None
    assert [finding.cause for finding in verdict.findings] == ([suspicion] if suspicion else [])


def test_nothing_is_suspected_where_other_rates_were_tried_or_the_measurement_came_to_its_end():
    tried = cut_short(0.0001, 0.09, 4000.0, others=(arm("rate", 0.001, factor=10.0),))
    assert conclude(tried, COST).findings == ()
    assert conclude(replace(cut_short(0.0001, 0.09, 4000.0), complete=True), COST).findings == ()


def test_inputs_and_examples_that_no_output_depends_on_are_told():
    whole, cut, one = (
        conclude(replace(planted("minimum"), sight=sight), COST).notes
        for sight in (Sight(64, 0, 32, 0), Sight(64, 32, 32, 0), Sight(64, 0, 32, 31))
    )
    assert not any("No output" in note for note in whole)
    assert any("32 of the 64 numbers" in note for note in cut)
    assert any("31 of the 32 examples" in note for note in one)


@pytest.mark.parametrize(("silent", "told"), [(0.9, "64 relu units after `2`"), (0.1, "inverted mask")])
def test_examples_that_units_are_silent_on_are_not_put_down_to_an_index(silent, told):
    units = Activation("2", "relu", "rectifier", 64, 32, 0.4, 0.0, 0.9, 0.1, silent)
    layers = Layers(32, (units,), (), (), 2.3)
    found = replace(planted("minimum"), sight=Sight(64, 0, 32, 29), layers=layers)

    (note,) = (note for note in conclude(found, COST).notes if "No output" in note)

    assert told in note


@pytest.mark.parametrize(("factor", "told"), [(0.5, True), (0.0, False)])
def test_parameters_that_no_example_tells_anything_are_told_unless_a_factor_of_zero_is_about_to_move(
    factor, told
):
    chosen, other = ParameterScale("chosen", factor, 0.1), ParameterScale("other", 1.0, 0.0)
    layers = Layers(768, (), (), (chosen, other), 2.3)
    notes = conclude(replace(planted("minimum"), layers=layers), COST).notes
    assert any("gives any gradient to `other`, out of 2" in note for note in notes) is told
    heard = replace(layers, parameters=(chosen,))
    assert not any(
        "any gradient to" in note for note in conclude(replace(planted("minimum"), layers=heard), COST).notes
    )


def test_curvature_of_a_loss_that_is_one_number_wherever_it_is_looked_at_is_rounding():
    # As of log(1 - D) at a discriminator that is sure: sigmoid's second derivative is there, its value rounds to 1.
    measured = planted("maximum")
    still = tuple(replace(route, gain=Estimate(0.0, 0.0), slope=0.0) for route in measured.routes)
    slices = tuple(replace(each, losses=(0.0, 0.0, 0.0)) for each in measured.slices)
    point = conclude(replace(measured, routes=still, slices=slices, loss=Estimate(0.0, 0.0)), COST).point
    assert point.kind is Kind.PLATEAU


@laws
@given(anything())
def test_the_verdict_is_total_sorted_finite_and_the_same_each_time(measured):
    verdict = conclude(measured, COST)
    confidences = [finding.confidence for finding in verdict.findings]
    named = [confidence >= NAMED for confidence in confidences]
    assert named == sorted(named, reverse=True)
    assert len({finding.cause for finding in verdict.findings}) == len(verdict.findings)
    assert all(0.0 <= confidence <= 1.0 for confidence in (*confidences, verdict.confidence))
    for finding in verdict.findings:
        assert all(math.isfinite(item.value) for item in finding.evidence)
        assert all(item.stderr is None or math.isfinite(item.stderr) for item in finding.evidence)
        assert "nan" not in finding.explanation.split()
    assert verdict.cause in {None, *(finding.cause for finding in verdict.findings)}
    assert (verdict.cause is None) == (verdict.confidence == 0.0)
    assert conclude(measured, COST) == verdict
    to_json(verdict)


@laws
@given(anything())
def test_what_was_not_measured_decides_nothing(measured):
    routes = tuple(route for route in measured.routes if route.name not in {"gradient", "krylov"})
    verdict = conclude(replace(measured, routes=routes, continuations=None), COST)
    assert verdict.point.kind is Kind.UNDECIDED
    assert verdict.findings == ()


@laws
@given(anything())
def test_without_its_curvature_no_point_is_called_critical(measured):
    kind = conclude(replace(measured, spectrum=None), COST).point.kind
    assert kind in {Kind.UNDECIDED, Kind.NOT_CRITICAL}


@laws
@given(
    st.floats(-10, 10),
    st.floats(0, 10),
    st.sampled_from(["saddle", "saddle with slope"]),
    st.sampled_from([1.0, 7.0, math.inf]),
)
def test_curvature_that_is_not_negative_beyond_doubt_is_never_called_a_saddle(value, stderr, row, degrees):
    measured = planted(row)
    curved = replace(line("lowest", value, fall=0.05), eigenvalue=Estimate(value, stderr, degrees))
    measured = replace(measured, slices=(curved, measured.slices[1]))
    is_saddle = conclude(measured, COST).point.kind is Kind.SADDLE
    assert is_saddle == curved.eigenvalue.surely_below(-3e-6 * 2.0)


@laws
@given(st.floats(-1, 1), st.floats(0, 1))
def test_there_is_no_saddle_where_the_loss_does_not_surely_fall_along_the_curvature(gain, stderr):
    measured = planted("saddle")
    routes = [made for made in measured.routes if made.name != "curvature"]
    along = route("curvature", gain, stderr=stderr)
    is_saddle = conclude(replace(measured, routes=(*routes, along)), COST).point.kind is Kind.SADDLE
    assert is_saddle == along.gain.surely_above(0.0)


@laws
@given(
    st.sampled_from(["minimum", "degenerate minimum"]),
    st.floats(-0.01, 0.01),
    st.floats(0, 0.01),
    st.booleans(),
)
def test_there_is_no_minimum_without_a_certificate_and_an_end_to_the_examination(
    row, lowest, doubt, complete
):
    certified = spectrum(lowest, 1.0, floor=lowest - doubt, above=0.4)
    measured = replace(planted(row), spectrum=certified, complete=complete)
    if conclude(measured, COST).point.kind in MINIMA:
        assert complete
        assert lowest - doubt >= -1e-3 * (1 + 1e-6)
        assert lowest >= -1e-3
    elif complete:
        assert lowest - doubt < -1e-3 * (1 - 1e-6)


def test_a_weak_certificate_makes_no_minimum():
    measured = planted("degenerate minimum")
    weak = spectrum(-1e-6, 2.0, tolerance=0.05, above=0.4)
    assert conclude(replace(measured, spectrum=weak), COST).point.kind is Kind.UNDECIDED


def test_an_examination_that_was_cut_short_makes_no_minimum():
    assert conclude(replace(planted("minimum"), complete=False), COST).point.kind is Kind.UNDECIDED


@laws
@given(
    st.floats(0.0101, 100.0),
    st.floats(0.0, 1.0),
    st.sampled_from(["gradient", "krylov"]),
    st.sampled_from(["saddle", "maximum", "minimum", "plateau", "gradient-flat"]),
)
def test_a_slope_that_surely_gains_is_never_called_critical(slope, share, name, row):
    stderr = share * (slope - 0.01) / 10.0
    steep = route(name, slope, slope, stderr=stderr)
    other = route("krylov" if name == "gradient" else "gradient", 0.0)
    measured = planted(row)
    kept = tuple(made for made in measured.routes if made.name == "curvature")
    measured = replace(measured, routes=(*kept, other, steep))
    assert conclude(measured, COST).point.kind not in CRITICAL


@laws
@given(st.floats(0.0, 0.2), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_with_a_slope_left_it_is_a_saddle_only_if_negative_curvature_gains_three_times_as_much(
    slope, escape, control
):
    measured = planted("saddle with slope")
    routes = (
        route("gradient", slope, slope),
        route("krylov", 0.0),
        route("curvature", 0.05),
        route("escape", escape),
        route("control", control),
    )
    point = conclude(replace(measured, routes=routes), COST).point
    if slope > 0.0101 and point.kind is Kind.SADDLE:
        assert escape > 3.0 * max(slope, control)


@pytest.mark.parametrize(
    ("alone", "escape", "kind"), [(0.05, 0.12, Kind.SADDLE), (1e-4, 0.12, Kind.NOT_CRITICAL)]
)
def test_where_a_descent_gets_as_far_without_negative_curvature_it_is_no_saddle(alone, escape, kind):
    routes = (
        route("gradient", 0.001, 0.001),
        route("krylov", 0.001, 0.001),
        route("curvature", alone),
        route("escape", escape),
        route("control", 0.1),
    )
    assert conclude(replace(planted("saddle"), routes=routes), COST).point.kind is kind


@pytest.mark.parametrize(("parameters", "kind"), [(100, Kind.PLATEAU), (10_000, Kind.SADDLE)])
def test_curvature_at_zero_is_weighed_by_what_weights_usually_are(parameters, kind):
    measured = planted("saddle")
    measured = replace(
        measured,
        length=0.0,
        spectrum=spectrum(-0.015, 0.015),
        gradient=replace(measured.gradient, norm=0.0),
        subject=replace(measured.subject, parameters=parameters),
    )
    assert conclude(measured, COST).point.kind is kind


@pytest.mark.parametrize("row", ["plateau", "curvature that leads nowhere", "minimum", "gradient-flat"])
def test_nothing_leads_nowhere_when_a_longer_descent_gains(row):
    measured = planted(row)
    routes = [made for made in measured.routes if made.name not in ("escape", "control")]
    routes += [route("escape", 0.06, 0.05), route("control", 0.06, 0.05)]
    point = conclude(replace(measured, routes=tuple(routes)), COST).point
    assert point.kind not in CRITICAL


@pytest.mark.parametrize("row", ["curvature that leads nowhere", "minimum", "degenerate minimum"])
@pytest.mark.parametrize(("found", "holds"), [(0.05, False), (0.005, True), (None, True)])
def test_where_a_descent_holds_on_its_own_examples_alone_nothing_is_known_of_others(row, found, holds):
    measured = planted(row)
    routes = tuple(replace(made, found=found) for made in measured.routes)
    kind = conclude(replace(measured, routes=routes), COST).point.kind
    assert kind is (conclude(measured, COST).point.kind if holds else Kind.UNDECIDED)


@pytest.mark.parametrize("row", ["plateau", "minimum", "degenerate minimum"])
def test_there_is_no_minimum_and_no_plateau_where_the_loss_falls_along_an_eigenvector(row):
    measured = planted(row)
    slices = (replace(measured.slices[0], losses=(0.9, 1.0, 1.1)), measured.slices[1])
    assert conclude(replace(measured, slices=slices), COST).point.kind is Kind.UNDECIDED


def test_a_hessian_that_one_product_has_seen_little_of_is_not_called_flat():
    measured = planted("plateau")
    seen = spectrum(0.0, 1e-6)
    seen = replace(seen, ceiling=replace(seen.ceiling, bound=50.0))
    assert conclude(replace(measured, spectrum=seen, complete=False), COST).point.kind is Kind.UNDECIDED


def test_where_slope_and_curvature_are_zero_and_the_loss_only_rises_it_is_a_minimum():
    kink = Slice(
        "lowest", Estimate(0.0, 0.0), (-1.0, -0.1, 0.0, 0.1, 1.0), (0.9, 0.05, 0.0, 0.05, 0.9), (0.0,) * 5
    )
    still = (route("gradient", 0.0), route("krylov", 0.0), route("shake", 0.0), route("control", 0.0))
    flat = replace(
        measurements(still, spectrum(0.0, 0.0, 0.0), (kink,)), gradient=Gradient(0.0, 0.0, 0.0, None)
    )
    verdict = conclude(flat, COST)
    assert verdict.point.kind is Kind.DEGENERATE_MINIMUM
    assert verdict.cause is Cause.LOCAL_MINIMUM


@pytest.mark.parametrize(
    ("losses", "loss", "kind"),
    [
        ((0.0, 0.0, 0.9), 0.0, Kind.DEGENERATE_MINIMUM),
        ((0.0, 0.0, 0.0), 0.0, Kind.PLATEAU),
        ((1.0, 1.0, 1.9), 1.0, Kind.PLATEAU),
    ],
    ids=["every margin is kept", "nothing is asked for", "no bottom"],
)
def test_a_loss_of_exactly_zero_that_rises_further_off_is_a_minimum_whatever_differences_say_of_its_curvature(
    losses, loss, kind
):
    beside = Slice("lowest", Estimate(0.05, 0.7), (-1.0, 0.0, 1.0), losses, (0.0,) * 3)
    still = (route("gradient", 0.0), route("krylov", 0.0), route("shake", 0.0), route("control", 0.0))
    found = measurements(
        still,
        spectrum(-0.06, 1.5),
        (beside,),
        gradient=Gradient(0.0, 0.0, 0.0, None),
        loss=Estimate(loss, 0.0),
        scale=1.0,
    )
    verdict = conclude(found, COST)

    assert verdict.point.kind is kind
    assert (verdict.cause is Cause.LOCAL_MINIMUM) is (kind is Kind.DEGENERATE_MINIMUM)
    assert ("exactly zero" in verdict.findings[0].explanation) is (kind is Kind.DEGENERATE_MINIMUM)


@pytest.mark.parametrize(
    ("loss", "gain", "named"), [(0.5005, 0.0, True), (0.6, 0.0, False), (0.5005, 0.05, False)]
)
def test_where_nothing_is_left_above_a_floor_it_is_a_minimum_and_no_plateau(loss, gain, named):
    outputs = Outputs("cross_entropy", (), loss, floor=0.5, blind=2.3)
    measured = replace(planted("plateau"), outputs=outputs, continuations=continued(gain))
    causes = [finding.cause for finding in conclude(measured, COST).findings]
    assert (Cause.LOCAL_MINIMUM in causes) is named
    assert (Cause.PLATEAU in causes) is (not named and gain == 0.0)


@pytest.mark.parametrize(("floor", "told"), [(0.9, True), (None, False)])
def test_what_percentages_are_of_is_told_where_a_loss_has_a_floor(floor, told):
    outputs = Outputs("cross_entropy", (), 1.0, floor=floor, blind=2.3)
    notes = conclude(replace(planted("plateau"), outputs=outputs, scale=0.1), COST).notes
    assert any("below about 0.9" in note for note in notes) is told


@pytest.mark.parametrize(("optimizer", "words"), [("Rprop", "bounds"), ("Adam", "Raise the learning rate")])
def test_where_bounds_hold_the_steps_it_is_they_that_are_to_be_raised(optimizer, words):
    creeping = continued(0.001, arm("rate", 0.5, factor=1e3))
    measured = replace(planted("not critical"), continuations=creeping)
    measured = replace(measured, subject=replace(measured.subject, optimizer=optimizer))
    (finding,) = (each for each in conclude(measured, COST).findings if each.cause is Cause.STEP_TOO_SMALL)
    assert words in finding.advice


@pytest.mark.parametrize("floor", [0.9, None])
def test_words_say_what_a_gain_is_a_share_of(floor):
    outputs = Outputs("cross_entropy", (), 1.0, floor=floor, blind=2.3)
    measured = replace(planted("not critical"), outputs=outputs, continuations=continued(0.3), scale=1.0)
    words = conclude(measured, COST).findings[0].explanation
    assert ("30 % of what lies above the floor of the loss" in words) is (floor is not None)
    assert ("30 % of the loss" in words) is (floor is None)


def test_kinks_without_curvature_are_no_plateau():
    measured = planted("plateau")
    slices = (replace(measured.slices[0], losses=(1.4, 1.0, 1.4)), measured.slices[1])
    measured = replace(measured, slices=slices, spectrum=spectrum(0.0, 0.0))
    assert conclude(measured, COST).point.kind is Kind.UNDECIDED


def stuck(gain, *others, **more):
    routes = (
        route("now", 1e-3),
        route("full", 1e-3),
        route("gradient", 0.02, 0.02, multiple=30.0),
        route("krylov", 0.03, 0.03),
    )
    found = measurements(
        routes, None, (), continuations=continued(gain, *others, **more), noise=measured_noise()
    )
    return conclude(found, COST)


def measured_noise():
    return Noise(32.0, 16, Estimate(500.0, 50.0, 15.0), Estimate(5.0, 0.5, 15.0), Estimate(0.01, 0.001, 15.0))


def test_a_run_that_goes_on_gaining_is_healthy():
    assert stuck(0.05).cause is Cause.HEALTHY


def test_a_run_that_creeps_is_surely_healthy_only_where_higher_rates_were_tried():
    def sure(gain, *others):
        measured = replace(planted("not critical"), continuations=continued(gain, *others))
        verdict = conclude(measured, COST)
        assert verdict.cause is Cause.HEALTHY
        return verdict.confidence

    tried = arm("rate", 0.06, factor=10.0, extra=0.01)
    assert sure(0.05) < 0.7 < sure(0.05, tried)
    assert sure(0.3) > 0.9


def test_a_run_that_creeps_is_not_surely_healthy_where_a_higher_rate_probably_gains_several_times_more():
    def first(gain, stderr):
        rate = arm("rate", gain, factor=10.0, stderr=stderr)
        return stuck(0.005, rate).findings[0]

    perhaps, chance, less = first(0.05, 0.014), first(0.05, 0.04), first(0.012, 0.004)
    assert perhaps.cause is chance.cause is less.cause is Cause.HEALTHY
    assert perhaps.confidence < 0.7
    assert "may gain 5 %, but that is not sure" in perhaps.explanation
    assert min(chance.confidence, less.confidence) > 0.9
    assert "No remedy" in chance.explanation


@pytest.mark.parametrize(("lower", "told"), [(0.6, True), (0.3, False)])
def test_a_lower_rate_that_gets_a_run_several_times_further_is_told_and_leaves_a_doubt(lower, told):
    measured = replace(planted("not critical"), continuations=continued(0.15, arm("rate", lower, factor=0.1)))
    verdict = conclude(measured, COST)
    assert verdict.cause is Cause.HEALTHY
    assert (verdict.confidence < 0.7) is told
    assert ("At 0.1 times the rate" in verdict.findings[0].explanation) is told


@laws
@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.0, 0.05))
def test_healthy_is_said_only_when_going_on_surely_gains_and_ever_more(gain, trend, stderr):
    verdict = stuck(gain, trend=trend, stderr=stderr)
    if Cause.HEALTHY in {finding.cause for finding in verdict.findings}:
        assert gain > 0.0
        assert trend > 2.0 * stderr


@pytest.mark.parametrize(
    ("others", "cause"),
    [
        ((arm("rate", 0.3, factor=0.1), arm("whole", -0.2)), Cause.STEP_TOO_LARGE),
        ((arm("rate", 0.3, factor=0.1), arm("whole", 0.2)), Cause.GRADIENT_NOISE),
        ((arm("rate", 0.05, factor=10.0), arm("rate", 0.5, factor=100.0)), Cause.STEP_TOO_SMALL),
        ((arm("rate", 0.05, factor=10.0), arm("rate", -0.5, factor=100.0)), Cause.STEP_TOO_SMALL),
        # The best step along g is 30 times the present one, and a rate of 10 times as much is thrown out.
        ((arm("rate", -0.3, factor=10.0), arm("rate", -0.01, factor=0.1)), Cause.ILL_CONDITIONED),
        ((arm("rate", 0.0, factor=10.0), arm("rate", -0.01, factor=0.1), arm("whole", 0.0)), None),
    ],
)
def test_what_gains_where_going_on_does_not_names_the_cause(others, cause):
    assert stuck(0.0, *others).cause is cause


@pytest.mark.parametrize(
    ("sharpness", "noise", "cause"),
    [
        (0.03, 500.0, Cause.GRADIENT_NOISE),
        (0.5, 500.0, Cause.STEP_TOO_LARGE),
        (0.03, 5.0, Cause.STEP_TOO_LARGE),  # batches are mostly signal
    ],
)
def test_steps_far_within_what_the_steepest_direction_bears_do_not_bounce_but_are_thrown_about(
    sharpness, noise, cause
):
    routes = (route("gradient", 0.02, 0.02), route("krylov", 0.03, 0.03))
    lower, carried = (
        arm("rate", 0.3, factor=0.1),
        arm("whole", -0.2),
    )  # by the noise that momentum has gathered
    found = measurements(
        routes,
        None,
        (),
        continuations=continued(0.0, lower, carried),
        noise=replace(measured_noise(), simple=Estimate(noise, 0.1 * noise, 15.0)),
        stability=Stability("SGD", Estimate(sharpness, 1e-3), 1.0, one_rate=True),
    )
    verdict = conclude(found, COST)

    assert verdict.cause is cause
    assert ("33 times as long" in verdict.findings[0].explanation) == (cause is Cause.GRADIENT_NOISE)


def test_a_rate_that_surely_gains_is_told_though_a_higher_one_gained_more_by_chance():
    sure, unsure = arm("rate", 0.5, factor=10.0), arm("rate", 0.8, factor=100.0, stderr=0.5)

    assert "10 times" in stuck(0.05, sure, unsure).findings[0].advice
    assert stuck(0.05, unsure).findings[0].advice == "Go on."


@pytest.mark.parametrize(
    ("row", "factor", "gain", "cause"),
    [
        ("in between", 1e4, 0.3, Cause.STEP_TOO_SMALL),
        ("in between", 10.0, 0.3, None),
        ("in between", 1e4, 0.001, None),
        ("saddle", 1e4, 0.3, Cause.SADDLE_POINT),
    ],
)
def test_where_the_point_is_undecided_a_rate_decades_higher_that_gains_much_names_the_steps(
    row, factor, gain, cause
):
    found = continued(0.0, arm("rate", gain, factor=factor))
    verdict = conclude(replace(planted(row), continuations=found), COST)
    assert verdict.cause is cause
    assert verdict.cause is not Cause.STEP_TOO_SMALL or verdict.confidence < 0.9


@pytest.mark.parametrize(("pull", "owed"), [(0.0, False), (1e-3, False), (3.0, True)])
def test_a_minimum_that_weight_decay_makes_is_said_to_be_one(pull, owed):
    measured = planted("minimum")
    measured = replace(measured, subject=replace(measured.subject, pull=pull))
    finding = conclude(measured, COST).findings[0]
    assert finding.cause is Cause.LOCAL_MINIMUM
    assert ("Weight decay makes it a minimum" in finding.explanation) is owed
    assert finding.advice.startswith("Let the weights decay less") is owed


def test_where_clipping_makes_the_steps_small_that_is_said():
    found = continued(0.0, arm("rate", 0.5, factor=1000.0))
    measured = replace(planted("not critical"), continuations=found)
    measured = replace(measured, subject=replace(measured.subject, clip=1e-4))
    assert "Clip less: the gradient is 10 times" in conclude(measured, COST).findings[0].advice
    divided = replace(measured, second_moment=SecondMoment("Adam", None))
    assert "Clip" not in conclude(divided, COST).findings[0].advice


@pytest.mark.parametrize(("distance", "cause"), [(20.0, Cause.ILL_CONDITIONED), (50.0, None)])
def test_a_descent_of_many_steps_nearby_shows_that_directions_are_unequal(distance, cause):
    descent = replace(route("control", 0.4), distance=distance)
    routes = (
        route("gradient", 0.004, multiple=2.0),
        route("krylov", 0.004),
        route("curvature", 1e-4),
        descent,
    )
    slices = (line("lowest", -0.1), line("highest", 50.0))
    found = measurements(routes, spectrum(-0.1, 50.0), slices, continuations=continued(0.0))
    assert conclude(found, COST).cause is cause


@pytest.mark.parametrize(
    ("trend", "extra", "cause"),
    [(-0.1, 0.2, Cause.STEP_TOO_LARGE), (0.1, 0.2, None), (0.1, 0.5, Cause.STEP_TOO_LARGE)],
)
def test_a_run_on_its_way_from_a_peak_is_too_fast_where_a_lower_rate_ends_far_below(trend, extra, cause):
    lower, whole = arm("rate", 0.4 + extra, factor=0.1, extra=extra), arm("whole", -0.2)
    assert stuck(0.4, lower, whole, trend=trend, stderr=0.25).cause is cause


@pytest.mark.parametrize(("rise", "cause"), [(-20.0, Cause.ILL_CONDITIONED), (-2.0, None)])
def test_a_rate_that_multiplies_the_loss_is_thrown_out_however_wildly(rise, cause):
    wild = arm("rate", rise, factor=10.0, stderr=15.0)
    assert stuck(0.0, wild, arm("rate", -0.01, factor=0.1)).cause is cause


@pytest.mark.parametrize("gain", [0.5, 0.7])
def test_a_run_that_gains_is_not_told_to_hurry_by_a_single_decade(gain):
    assert stuck(0.05, arm("rate", gain, factor=10.0)).cause is Cause.HEALTHY


def test_a_run_in_good_health_hears_of_a_rate_that_gains_several_times_more():
    sooner, alike = (stuck(0.05, arm("rate", gain, factor=10.0)).findings[0] for gain in (0.4, 0.1))
    assert "10 times" in sooner.explanation
    assert "10 times" in sooner.advice
    assert "times" not in alike.advice


@laws
@given(st.floats(-0.1, 0.1), st.floats(0.0, 0.1), st.floats(0.0, 0.05))
def test_losses_that_are_lower_pass_by_pass_show_a_fall_only_where_going_on_surely_gains(
    gain, paired, stderr
):
    going_on = continued(gain, trend=0.0, stderr=stderr)
    going_on = replace(going_on, arms=(replace(going_on.going_on, paired=Estimate(paired, 0.01, 15.0)),))
    found = measurements((), None, (), continuations=going_on)
    surely = Estimate(gain, stderr, 7.0).surely_above(0.0, sigmas=2.0)
    assert falls(found) == (surely and Estimate(paired, 0.01, 15.0).surely_above(0.0))


def test_steps_that_creep_where_a_tenth_of_them_sheds_the_loss_are_too_large_unless_batches_are_noise():
    signal = replace(measured_noise(), simple=Estimate(5.0, 0.5, 15.0))
    routes = (route("gradient", 0.02, 0.02), route("krylov", 0.03, 0.03))

    def cause(gain, lower, noise):
        arms = continued(gain, arm("rate", lower, factor=0.1, extra=lower - gain))
        return conclude(measurements(routes, None, (), continuations=arms, noise=noise), COST).cause

    assert cause(0.05, 0.7, signal) is Cause.STEP_TOO_LARGE
    assert cause(0.05, 0.4, signal) is Cause.HEALTHY
    assert cause(0.2, 0.7, signal) is Cause.HEALTHY
    assert cause(0.05, 0.7, measured_noise()) is Cause.HEALTHY


@pytest.mark.parametrize(
    ("looks", "cause"),
    [
        ((1.0, 0.9, 0.8, 2.7, 1.7, 1.6, 1.2), None),
        ((1.0, 0.9, 0.8, 2.7, 1.6, 1.2, 1.7), Cause.STEP_TOO_LARGE),
        ((1.0, 0.95, 0.95, 2.7, 1.7, 1.6, 1.2), Cause.STEP_TOO_LARGE),
    ],
)
def test_one_leap_that_a_run_comes_down_from_does_not_make_its_steps_too_large(looks, cause):
    lower = replace(arm("rate", 0.1, factor=0.1, extra=0.6), losses=(1.0, 0.95, 0.92, 0.9, 0.88))
    went_on = continued(-0.5, lower, arm("whole", 0.0), trend=0.0)
    own = replace(went_on.arms[0], losses=looks)
    measured = replace(planted("not critical"), continuations=replace(went_on, arms=(own, *went_on.arms[1:])))
    assert conclude(measured, COST).cause is cause


def test_steps_are_not_called_too_large_before_noise_was_ruled_out():
    lower = arm("rate", 0.3, factor=0.1)
    assert stuck(0.0, lower, arm("whole", -0.2)).cause is Cause.STEP_TOO_LARGE
    assert stuck(0.0, lower).cause is None


def test_where_units_are_copies_of_each_other_no_cause_of_the_steps_is_sure_before_curvature_is_asked_for():
    routes = (route("gradient", 0.02, 0.02), route("krylov", 0.03, 0.03))
    copies = Layers(768, (), (), (ParameterScale("0.weight", 1.0, 1.0, copies=1.0),), 2.3)
    found = measurements(routes, None, (), continuations=continued(0.0, arm("rate", 0.5, factor=100.0)))
    sure, confined = (conclude(each, COST) for each in (found, replace(found, layers=copies)))
    assert sure.cause is confined.cause is Cause.STEP_TOO_SMALL
    assert confined.confidence < 0.7 < sure.confidence


@pytest.mark.parametrize(
    ("reason", "cause"), [("rate", Cause.STEP_TOO_SMALL), ("unused", Cause.ILL_CONDITIONED)]
)
def test_at_a_rate_of_zero_no_directions_are_told_to_be_unequal(reason, cause):
    nothing = Estimate(0.0, 1e-6)
    wiring = Wiring((Excluded(reason, ("a",), 100),), 100, nothing, nothing, nothing)
    routes = (route("gradient", 0.0, 0.02), route("krylov", 0.3, 0.3))
    measured = measurements(routes, None, (), continuations=continued(0.0), wiring=wiring)
    assert conclude(measured, COST).cause is cause


@pytest.mark.parametrize("factor", [100.0, 1e7])
def test_a_rate_that_has_decayed_away_is_told_from_one_that_was_set_too_low(factor):
    higher, wiring = arm("rate", 0.5, factor=factor), Wiring((), 100)
    routes = (route("gradient", 0.02, 0.02), route("krylov", 0.03, 0.03))
    advice = []
    for share in (None, 1.0, 1e-3):
        found = measurements(
            routes,
            None,
            (),
            continuations=continued(0.0, higher),
            wiring=replace(wiring, scheduled=share is not None, rate_share=share),
        )
        verdict = conclude(found, COST)
        assert verdict.cause is Cause.STEP_TOO_SMALL
        advice.append(verdict.findings[0].advice)
        assert f"{figure(factor)} times" in advice[-1]
    assert ["the one that it was given" in each for each in advice] == [False, False, True]


SURE = Estimate(0.5, 0.01)
EXPLAINING = {
    "labels": Labels(800, 0.6, Estimate(0.01, 0.03), 0.1, ("inputs", "trained copy"), 2.3, 2.3, passes=12),
    "second_moment": SecondMoment("Adam", Estimate(5.0, 0.1), "", 16, Estimate(1e-3, 1e-6), SURE, SURE),
    "wiring": Wiring((Excluded("unlisted", ("a",), 60),), 100, SURE, Estimate(0.0, 0.0), SURE),
}


@laws
@given(st.sampled_from(list(EXPLAINING)), st.floats(-0.1, 0.0), st.lists(arms, max_size=4))
def test_where_a_cause_explains_whatever_other_steps_gain_they_change_nothing(name, gain, others):
    def verdict(*tried):
        record = {name: EXPLAINING[name]}
        return conclude(measurements((), None, (), continuations=continued(gain, *tried), **record), COST)

    assert explained(verdict())
    assert verdict(*others).cause is verdict().cause


@pytest.mark.parametrize("cause", Cause)
def test_only_what_precedes_steps_and_is_not_told_by_them_is_explained(cause):
    verdict = replace(stuck(0.0), cause=cause)
    steps = EXPLAINS[-1] | {Cause.DEAD_UNITS, Cause.SATURATED_UNITS, Cause.VANISHING_GRADIENT}
    assert explained(verdict) == (cause not in steps)


@laws
@given(anything())
def test_a_critical_point_is_never_called_healthy(measured):
    verdict = conclude(measured, COST)
    causes = {finding.cause for finding in verdict.findings}
    if verdict.point.kind is not Kind.NOT_CRITICAL:
        steps = {Cause.STEP_TOO_LARGE, Cause.ILL_CONDITIONED, Cause.GRADIENT_NOISE}
        # Where the kind is open a rate decades higher may tell, but not so surely that curvature is not asked.
        small = {finding.confidence for finding in verdict.findings if finding.cause is Cause.STEP_TOO_SMALL}
        assert not causes & steps
        assert not small or (verdict.point.kind is Kind.UNDECIDED and max(small) < 0.9)
    if Cause.HEALTHY in causes:
        assert not causes & {Cause.STEP_TOO_LARGE, Cause.GRADIENT_NOISE, Cause.ILL_CONDITIONED}


@pytest.mark.parametrize("row", ["saddle", "not critical"])
def test_a_loss_of_exactly_zero_is_no_error(row):
    verdict = conclude(replace(planted(row), scale=0.0, loss=Estimate(0.0, 0.0)), COST)
    assert all(math.isfinite(item.value) for finding in verdict.findings for item in finding.evidence)


@laws
@given(st.sampled_from(["saddle", "minimum", "plateau", "not critical", "maximum"]), st.integers(-40, 40))
def test_the_unit_of_the_loss_does_not_matter(row, exponent):
    unit = 2.0**exponent  # a power of two scales without rounding
    measured = planted(row)

    def scaled(estimate):
        return Estimate(estimate.value * unit, estimate.stderr * unit, estimate.degrees)

    found = measured.spectrum
    again = replace(
        measured,
        loss=scaled(measured.loss),
        scale=measured.scale * unit,
        routes=tuple(
            replace(made, gain=scaled(made.gain), slope=made.slope * unit) for made in measured.routes
        ),
        spectrum=replace(
            found,
            lowest=tuple(replace(one, value=one.value * unit) for one in found.lowest),
            highest=tuple(replace(one, value=one.value * unit) for one in found.highest),
            floor=replace(found.floor, bound=found.floor.bound * unit),
            ceiling=replace(found.ceiling, bound=found.ceiling.bound * unit),
        ),
        slices=tuple(
            replace(
                one,
                eigenvalue=scaled(one.eigenvalue),
                losses=tuple(loss * unit for loss in one.losses),
            )
            for one in measured.slices
        ),
    )
    assert conclude(again, COST).point.kind is conclude(measured, COST).point.kind


def test_a_saddle_that_is_one_with_decay_too_is_not_owed_to_it():
    measured = planted("saddle")
    measured = replace(measured, subject=replace(measured.subject, pull=0.01))
    assert conclude(measured, COST).findings[0].advice.startswith("Escape along")


@pytest.mark.parametrize(
    ("steps", "optimizer", "told"), [(6, "SGD", "5 times"), (48, "SGD", "10 times"), (6, "Adam", "10 times")]
)
def test_no_rate_is_advised_that_the_steepest_direction_may_yet_be_seen_not_to_bear(steps, optimizer, told):
    faster = replace(arm("rate", 0.5, factor=10.0, extra=0.45), steps=steps)
    routes = (route("gradient", 0.3, 0.3), route("krylov", 0.3, 0.3))
    subject = replace(SUBJECT, optimizer=optimizer)
    verdict = conclude(
        measurements(routes, None, (), subject=subject, continuations=continued(0.05, faster)), COST
    )
    assert verdict.cause in {Cause.HEALTHY, Cause.STEP_TOO_SMALL}
    assert told in verdict.findings[0].advice


def test_of_a_run_whose_own_gradients_go_through_hooks_good_health_is_less_sure():
    routes = (route("gradient", 0.3, 0.3), route("krylov", 0.3, 0.3))
    sure = [
        conclude(
            measurements(
                routes, None, (), subject=replace(SUBJECT, hooked=hooked), continuations=continued(0.3)
            ),
            COST,
        ).confidence
        for hooked in (0, 4)
    ]
    assert sure[1] < 0.7 < sure[0]
