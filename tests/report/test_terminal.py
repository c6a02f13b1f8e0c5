import io
from dataclasses import replace

import pytest
from rich.console import Console
from runs import verdict_of

from unstuck.estimate import Estimate
from unstuck.findings.records import Remedy
from unstuck.measurements.records.continuations import Arm, Continuations
from unstuck.measurements.records.trials import Curve, Trials
from unstuck.measurements.records.updates import Forgetting, Momentum
from unstuck.report.costs import cost_line
from unstuck.report.eigenvalues import certificate_words
from unstuck.report.facts import place
from unstuck.report.headline import headline
from unstuck.report.terminal import render, to_text
from unstuck.report.words import measurement_name


def test_plain_text_has_no_terminal_codes_and_fits_the_width(verdict):
    for width in (60, 80, 120):
        text = to_text(verdict, width=width)
        assert "\x1b" not in text
        assert max(len(line) for line in text.splitlines()) <= width


def test_the_cause_and_what_to_do_come_in_the_first_dozen_lines(saddle, minimum, valley):
    for verdict, name in ((saddle, "Saddle point"), (minimum, "Local minimum"), (valley, "Step too large")):
        head = "\n".join(to_text(verdict, width=80).splitlines()[:12])
        assert name in head
        assert "What to do:" in head


def test_a_person_reads_where_the_decrease_comes_from_and_what_is_certified(saddle):
    text = to_text(saddle, width=100)
    for words in (
        "along negative curvature",
        "13.5 ± 0.61",
        "39,000\u00d7",
        "-0.512 ± 0.00086",
        "-0.497 ± 0.021",
        "no eigenvalue below -12.1 % of the largest (-0.522), with probability 99 %",
        "52.1 ± 1.2 %",
        "1,024 examples in 8 batches",
        "64 gradients, 23 Hessian-vector products (retained graph), 1.2 s, 310 MB",
    ):
        assert words in text


def test_every_other_finding_is_told_as_well(valley):
    text = to_text(valley, width=100)
    assert "Also found" in text
    assert "Ill-conditioned · 88 % sure" in text


def test_what_was_not_measured_is_said_and_not_guessed(undecided):
    text = to_text(undecided, width=80)
    assert "Not sure" in text
    assert "sure" not in text.splitlines()[0].replace("Not sure", "")
    assert "The curvature was not measured" in text
    assert "None" not in text
    assert "inf" not in text
    assert "nan" not in text


def test_a_users_text_cannot_speak_to_the_terminal_nor_be_taken_for_markup(hostile):
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")
    console.print(render(hostile))
    shown = console.file.getvalue()
    assert "\x1b[31m[bold]" not in shown
    assert "[31m[bold]" in shown


def test_a_coloured_terminal_gets_colour_and_no_color_takes_it_away(saddle, monkeypatch):
    def shown():
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
        console.print(render(saddle))
        return console.file.getvalue()

    red = "\x1b[31m"
    assert red in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert red not in shown()


@pytest.mark.parametrize("side", ["below", "above"])
def test_a_certificate_never_claims_certainty_that_it_does_not_have(saddle, minimum, side):
    assert "probability 99 %" in certificate_words(saddle.measured.spectrum.floor, side)
    assert "all were computed" in certificate_words(minimum.measured.spectrum.floor, side)


def test_a_run_without_products_does_not_name_an_engine(undecided):
    assert cost_line(undecided) == "2.5 gradients, no Hessian-vector product, 310 ms, 280 MB"


def test_steps_taken_on_the_way_have_no_length_of_their_own(valley):
    line = next(line for line in to_text(valley).splitlines() if "next 50 steps" in line)
    assert line.split()[-2:] == ["0.72", "\u258f"]


def test_what_was_left_out_is_said_with_its_reason():
    text = " ".join(to_text(verdict_of("much left out")).split())
    assert "left out what rounding leaves, the optimizer's own steps, going on, because" in text
    assert "This optimizer holds a connection and cannot be copied" in text


def test_a_number_that_is_none_is_named_where_it_appears_and_nothing_else_is_claimed():
    text = to_text(verdict_of("missing value"))
    assert "Where it appears" in text
    assert "the data, before the model sees them" in text
    for words in ("Curvature", "Where can the next decrease", "not a number", "kind of point", "loss  "):
        assert words not in text


def test_curvature_that_the_answer_did_not_need_is_not_missed():
    verdict = verdict_of("dead units")
    assert verdict.measured.spectrum is None
    text = to_text(verdict)
    assert "The curvature was not needed for this answer" in text
    assert "steepest curvature met" in text


def test_a_run_that_still_falls_beside_its_cause_is_not_called_healthy():
    text = to_text(verdict_of("learnt by heart"))
    assert "Still falling" in text
    assert "Healthy" not in text
    assert "No remedy" not in text


def test_the_dearest_measurements_are_named_in_their_order():
    cost = verdict_of("rate too large").cost
    dearest = max(
        (part for part in cost.measurements if part.name != "other"), key=lambda part: part.gradients
    )
    line = next(
        line for line in to_text(verdict_of("rate too large")).splitlines() if "most of it for" in line
    )
    assert line.split("most of it for ")[1].startswith(measurement_name(dearest.name))
    assert "," in line


def test_what_is_proved_is_advised_though_the_cause_is_open(undecided):
    proved = Remedy("larger-step", "learning rate times 10", 0.3, 0.2, 0.4)

    open_, cured = (headline(each) for each in (undecided, replace(undecided, remedies=(proved,))))

    assert open_.todo.startswith("Give it more")
    assert cured.todo.startswith("Do what was proved")


def test_the_longest_step_of_plain_descent_is_not_told_of_one_with_momentum(saddle):
    gradient = replace(saddle.measured.gradient, stable=0.13)
    names = [
        [fact.label for fact in place(replace(saddle, measured=measured))]
        for momentum in (None, Momentum(1.0))
        for measured in [replace(saddle.measured, gradient=gradient, momentum=momentum)]
    ]

    assert ["longest stable step" in each for each in names] == [True, False]


@pytest.mark.parametrize("gain", [0.2, 0.0])
def test_decay_that_undoes_what_steps_learn_is_told_where_no_cause_has_a_word_for_it(undecided, gain):
    nothing, fresh = Estimate(0.0, 1e-3), Estimate(gain, 1e-3)
    forgetting = Forgetting(share=0.05, steps=20, present_gain=nothing, fresh_gain=fresh, extra=fresh)
    arm = Arm("going on", 1.0, 20, nothing, nothing, nothing, (0, 20), (1.0, 1.0))
    measured = replace(undecided.measured, forgetting=forgetting, continuations=Continuations((arm,), 4.0))
    told = headline(replace(undecided, measured=measured))
    assert ("decay" in told.explanation, "decay" in told.todo) == (gain > 0.0, gain > 0.0)


@pytest.mark.parametrize(
    ("error", "ends", "told"),
    [(0.03, None, True), (0.08, None, False), (0.03, 0.9, True), (0.03, 1.1, False)],
    ids=["probably", "within its error", "and on other orders", "and rises on those"],
)
def test_a_loss_that_probably_falls_is_not_said_to_have_stopped(undecided, error, ends, told):
    gain = Estimate(0.08, error, 20.0)
    arm = Arm("going on", 1.0, 20, gain, gain, gain, (0, 20), (1.0, 0.92))
    curve = Curve((0.0, 1.0), (1.0, ends or 1.0), ends or 1.0)
    trials = Trials(
        (curve,), (), (), 1, 96.0, 4, whole=True, by_validation=False, level=0.95,
        gradients=1.0, seconds=1.0, complete=True,
    )  # fmt: skip
    measured = replace(undecided.measured, continuations=Continuations((arm,), 4.0))
    verdict = replace(undecided, measured=measured, trials=trials if ends else None)
    assert ("may not have stopped" in headline(verdict).explanation) is told
