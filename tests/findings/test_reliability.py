"""What is told is no surer than findings of its kind have proved right, and nothing else of a verdict changes."""

from dataclasses import replace

import pytest
from handmade import COST, anything, planted
from hypothesis import given, settings

import unstuck
from unstuck.demos.moving import healthy
from unstuck.findings.records import Cause
from unstuck.findings.reliability import CERTIFIED, Kept, as_told, most
from unstuck.findings.verdict import NAMED, conclude

laws = settings(deadline=None, derandomize=True, max_examples=40)


@given(measured=anything())
@laws
def test_only_what_is_too_sure_is_changed_and_never_so_far_that_it_is_not_named(measured):
    verdict = conclude(measured, COST)
    told = as_told(verdict)
    assert as_told(told) == told
    assert [one.cause for one in told.findings] == [one.cause for one in verdict.findings]
    for one, before in zip(told.findings, verdict.findings, strict=True):
        assert one.confidence == min(before.confidence, most(one.cause))
        assert (one.confidence >= NAMED) == (before.confidence >= NAMED)
    assert replace(told, findings=(), confidence=0.0) == replace(verdict, findings=(), confidence=0.0)
    if told.cause is not None:
        assert told.confidence == told.findings[0].confidence


def test_what_curvature_certifies_is_as_sure_as_its_certificate():
    verdict = conclude(planted("saddle"), COST)
    assert verdict.cause is Cause.SADDLE_POINT
    assert verdict.confidence > most(Cause.HEALTHY)
    assert as_told(verdict) == verdict


@pytest.mark.parametrize(("right", "of"), [(0, 0), (3, 3), (90, 100)])
def test_a_chance_lies_between_one_half_and_what_was_counted(right, of):
    chance, counted = Kept(right, of).chance, right / of if of else 0.5
    assert min(counted, 0.5) <= chance <= max(counted, 0.5)


def test_every_cause_has_a_most_and_only_certificates_are_beyond_doubt():
    assert {cause for cause in Cause if most(cause) >= 0.99} == CERTIFIED


def test_a_diagnosis_is_told_like_that():
    diagnosis = unstuck.diagnose(healthy())
    assert diagnosis.cause == "healthy"
    assert diagnosis.confidence == diagnosis.findings[0].confidence == most(Cause.HEALTHY)
