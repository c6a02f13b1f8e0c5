"""How the gradient fares on its way back, through the layers and through the time steps."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Depth
from unstuck.report.figures.bars import short
from unstuck.report.figures.theme import DOWN, UP, decades, dotted, style
from unstuck.report.units import place_name

FEWEST = 2  # places; one alone is no way
SPAN = 100.0  # the ratio of the axis' ends at least: a factor of two must not look like a collapse
LABELLED = 14  # places; the names of more would overlap
LETTERS = 110  # of all names that fit side by side


def drawn_depths(verdict: Verdict) -> tuple[Depth, ...]:
    """The places at which a gradient arrives, in the order of execution."""
    found = verdict.measured.layers
    places = found.depths if found else ()
    return tuple(place for place in places if math.isfinite(place.gradient) and place.gradient > 0.0)


def _recurrent(verdict: Verdict) -> Depth | None:
    """The place whose gradient shrinks most through time, if that is more than it does through the layers."""
    found = [place for place in drawn_depths(verdict) if sum(step > 0.0 for step in place.steps) >= FEWEST]
    worst = min(found, key=lambda place: _left(place.steps), default=None)
    through_layers = _left([place.gradient for place in drawn_depths(verdict)])
    return None if worst is None or _left(worst.steps) > through_layers else worst


def _left(lengths: Sequence[float]) -> float:
    """What is left at the first place of the gradient at the last."""
    return lengths[0] / max(lengths[-1], 1e-300) if lengths else 1.0


def has_depth(verdict: Verdict) -> bool:
    """Whether the gradient was met at more than one place."""
    return len(drawn_depths(verdict)) >= FEWEST or _recurrent(verdict) is not None


def depth(verdict: Verdict) -> go.Figure:
    """Length of one example's gradient at each weight; where one is used again and again, at each use."""
    places, recurrent = drawn_depths(verdict), _recurrent(verdict)
    figure = go.Figure()
    title = "How the gradient fares on its way back"
    if recurrent is not None:
        style(figure, f"{title} through time", 380)
        steps = recurrent.steps
        _curve(figure, [f"use {number + 1}" for number in range(len(steps))], steps, DOWN)
        lost = sum(length <= 0.0 for length in steps)
        figure.update_xaxes(
            title_text=f"uses of {short(recurrent.name)} in turn"
            + (f" (none arrives at {lost} of {len(steps)})" if lost else ""),
            tickvals=[0, len(steps) - 1],
            ticktext=["the first", "the last"],
        )
        return figure
    style(figure, title, 400)
    names = [short(place_name(place.name)) for place in places]
    _curve(figure, names, [place.gradient for place in places], UP)
    stride = 1 + (len(names) - 1) // LABELLED
    shown = list(range(0, len(names), stride))
    letters = sum(len(names[index]) + 2 for index in shown)
    figure.update_xaxes(
        title_text="weights in the order of execution, the input on the left",
        tickvals=shown,
        ticktext=[names[index] for index in shown],
        tickangle=0 if letters < LETTERS else 35,
    )
    return figure


def _curve(figure: go.Figure, names: Sequence[str], lengths: Sequence[float], colour: str) -> None:
    dotted(
        figure,
        range(len(names)),
        [length if length > 0.0 and math.isfinite(length) else None for length in lengths],
        colour,
        showlegend=False,
        customdata=names,
        hovertemplate="length %{y:.3g}<extra>%{customdata}</extra>",
    )
    seen = [length for length in lengths if length > 0.0 and math.isfinite(length)]
    high = 2.0 * max(seen)
    low = min(min(seen) / 2.0, high / SPAN)
    figure.update_yaxes(title_text="length of one example's gradient (log scale)", **decades(low, high))
    figure.update_xaxes(range=[-0.3, len(names) - 0.7])
