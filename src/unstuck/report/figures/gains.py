"""Gains as bars, in percent of the loss."""

from unstuck.estimate import Estimate
from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import Bar, Panel
from unstuck.report.numbers import gain

SMALLEST_FULL_SCALE = 1.0  # percent of the loss: a gain of nothing must look like nothing


def gain_bar(verdict: Verdict, label: str, found: Estimate, colour: str) -> Bar:
    """Give one bar for a gain in units of the loss."""
    share = found / verdict.measured.scale
    return Bar(label, 100 * share.value, colour, f"{gain(share)} %", 100 * share.stderr)


def gains_panel(what: str, *rows: Bar) -> Panel:
    """Give the panel that compares them."""
    return Panel(f"{what}, % of the loss (whiskers: ± one standard error)", rows, SMALLEST_FULL_SCALE)
