"""Training against validation: the losses now, and what going on does to each."""

import plotly.graph_objects as go

from unstuck.estimate import Estimate
from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel, stacked
from unstuck.report.figures.theme import DOWN, FLAT, UP
from unstuck.report.numbers import significant, with_error


def has_validation(verdict: Verdict) -> bool:
    """Whether there are validation data."""
    return verdict.measured.validation is not None


def validation(verdict: Verdict) -> go.Figure:
    """Losses in eval mode on both sides, and their decrease by going on."""
    found = verdict.measured.validation
    panels: list[Panel] = []
    if found is not None:
        losses = [_bar("training", found.training, UP), _bar("validation", found.validation, DOWN)]
        if found.constant is not None:
            losses.append(Bar("a constant output", found.constant, FLAT, significant(found.constant)))
        panels = [Panel("loss, in eval mode (whiskers: ± one standard error)", losses)]
        if found.onward is not None:
            gains = found.onward.training_gain, found.onward.validation_gain
            panels.append(
                Panel(
                    f"decrease of that loss by going on for {found.onward.steps} steps",
                    (_bar("training ", gains[0], UP), _bar("validation ", gains[1], DOWN)),
                    0.01 * max(abs(found.training.value), abs(found.validation.value)),
                )
            )
    return stacked("Training against validation", *panels)


def _bar(label: str, found: Estimate, colour: str) -> Bar:
    return Bar(label, found.value, colour, with_error(found), found.stderr)
