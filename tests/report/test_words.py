import ast
from pathlib import Path

import pytest
from runs import RUNS, verdict_of

import unstuck.findings
from unstuck.findings.records import Cause, Kind
from unstuck.measurements.records import Measurements
from unstuck.report import words
from unstuck.report.captions import CAPTIONS
from unstuck.report.facts import left_out
from unstuck.report.figures import FIGURES
from unstuck.report.quantities import EVIDENCE, evidence_name, unit


def test_every_cause_and_every_kind_has_words():
    assert set(words.CAUSES) == set(Cause)
    assert set(words.KINDS) == set(Kind)


def test_each_meaning_and_each_advice_is_a_sentence():
    for word in (*words.CAUSES.values(), words.UNSURE):
        for sentence in (word.meaning, word.todo):
            assert sentence[0].isupper()
            assert sentence.endswith(".")


def test_no_cause_is_not_sure():
    assert words.cause_word(None).name == "Not sure"


def test_a_kind_reads_as_one_clause():
    assert words.kind_sentence(Kind.SADDLE) == (
        "a saddle point: the gradient leads no further, but there is a way down along negative curvature"
    )


def test_names_that_nobody_gave_words_to_are_still_legible():
    assert evidence_name("some_new_number") == "some new number"
    assert words.route_name("elsewhere") == "elsewhere"
    assert words.engine_name("retained+differences") == "retained graph, central differences"


def evidence_in_the_source():
    """Every name that is written as the first argument of `Evidence` or `estimated` in a check."""
    names = set()
    for path in Path(unstuck.findings.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            name = node.args[0]
            if node.func.id in {"Evidence", "estimated"} and isinstance(name, ast.Constant):
                names.add(name.value)
    return names


def test_every_number_that_a_check_names_has_words_and_a_unit():
    written = evidence_in_the_source()
    assert len(written) > 40
    assert written - set(EVIDENCE) == set()


@pytest.mark.parametrize("name", RUNS)
def test_no_evidence_of_a_real_run_is_without_words(name):
    for finding in verdict_of(name).findings:
        for item in finding.evidence:
            route = item.name.removesuffix("_gain")
            assert item.name in EVIDENCE or route in words.ROUTES, item.name


def test_a_gain_is_in_percent_of_the_loss_and_names_its_route():
    assert evidence_name("krylov_gain") == "gain: curvature-corrected (Krylov)"
    assert (unit("krylov_gain"), unit("dead_share"), unit("lambda_min")) == ("gain", "share", "plain")


def test_every_figure_has_a_caption():
    assert set(CAPTIONS) == set(FIGURES)


def test_every_measurement_has_words():
    optional = {name for name, field in Measurements.__dataclass_fields__.items() if field.default is None}
    assert optional <= set(words.MEASUREMENTS)


def test_a_reason_reads_on_after_because():
    line, other = left_out(verdict_of("much left out"))
    assert line.endswith("This optimizer holds a connection and cannot be copied")
    assert ", because `optimizer` cannot be copied" in line
    assert other.endswith("steps bear, because the step that Fussy can bear is not known")
