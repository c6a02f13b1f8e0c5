from unstuck.findings.records import Cause, Kind
from unstuck.report import words


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
        "a saddle point: the gradient has vanished, but there is a way down along negative curvature"
    )


def test_names_that_nobody_gave_words_to_are_still_legible():
    assert words.evidence_name("noise_scale") == "noise scale"
    assert words.route_name("elsewhere") == "elsewhere"
    assert words.engine_name("retained+differences") == "retained graph, central differences"
