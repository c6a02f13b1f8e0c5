"""How every figure looks: one template, one palette that the colour-blind can tell apart."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from unstuck.report.numbers import TIMES

# Okabe & Ito (2008), "Color universal design".
UP = "#0072B2"  # positive curvature, and what is owed to the slope
DOWN = "#D55E00"  # negative curvature
FLAT = "#9AA0A6"
MARK = "#1F2328"
GREEN = "#009E73"
QUIET = "#6B7280"

FONT = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif'
DECIMAL = (-3, 4)  # powers of ten in between are written as decimals
MOST_DECADES = 8  # labelled on an axis
ROUNDED = 1.0 + 1e-9  # a label at the very end of an axis belongs to it
SHORT = 200  # of a logarithmic axis: the ratio of its ends below which powers of ten are too few
FAR = 10.0  # above the picture, in units of its height: lines may run so far out of it
MINUS = "\u2212"

_AXIS = {
    "gridcolor": "#ECEEF1",
    "linecolor": "#C7CBD1",
    "zeroline": False,
    "ticks": "outside",
    "tickcolor": "#C7CBD1",
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13, "color": QUIET}},
    "tickfont": {"size": 12},
    "ticklabelstandoff": 4,
    "exponentformat": "power",
}
_LAYOUT = {
    "font": {"family": FONT, "size": 13, "color": MARK},
    "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 17}},
    "paper_bgcolor": "#FFFFFF",
    "plot_bgcolor": "#FFFFFF",
    "margin": {"l": 16, "r": 24, "t": 72, "b": 16},
    "xaxis": _AXIS,
    "yaxis": _AXIS,
    "hoverlabel": {"bgcolor": "#FFFFFF", "bordercolor": "#C7CBD1", "font": {"family": FONT, "size": 13}},
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    "bargap": 0.35,
}


def style(figure: go.Figure, title: str, height: int) -> go.Figure:
    """Give a figure the common look, its title and its height; the width is that of the page."""
    template = go.layout.Template(layout=_LAYOUT)
    return figure.update_layout(template=template, title_text=title, height=height, autosize=True)


def dotted(
    figure: go.Figure, x: Sequence[int], y: Sequence[float | None], colour: str, **more: Any
) -> go.Figure:
    """Add a curve that shows where it was measured; `more` is what Plotly's scatter takes."""
    return figure.add_scatter(
        x=list(x),
        y=list(y),
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 6},
        **more,
    )


def decades(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis from `low` to `high` (values), labelled at powers of ten; a short one at 2 and 5 too."""
    ticks = round_numbers(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": [value for value, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def round_numbers(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten about a logarithmic range, each with its label; of a short one 2 and 5 times them too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if high / low < SHORT:
        pairs = [(factor, power) for power in range(first, last + 1) for factor in (1, 2, 5)]
        labels = [(factor * 10.0**power, power_of_ten(power, times=factor)) for factor, power in pairs]
        return [label for label in labels if low / ROUNDED <= label[0] <= high * ROUNDED]
    stride = 1 + (last - first) // MOST_DECADES
    return [(10.0**power, power_of_ten(power)) for power in range(first, last + 1, stride)]


def power_of_ten(power: int, *, times: int = 1) -> str:
    """Write so many times 10 to that power, as a decimal where that is short."""
    low, high = DECIMAL
    if low <= power <= high:
        return f"{times * 10.0**power:,.{max(0, -power)}f}"
    return minus(f"{times}{TIMES}" * (times > 1) + f"10<sup>{power}</sup>")


def minus(text: str) -> str:
    """Write the minus sign as a minus sign; Plotly does so on its axes."""
    return text.replace("-", MINUS)


def padded(values: Iterable[float], share: float = 0.12) -> tuple[float, float]:
    """The range of the finite values, with some air; it is never empty, and nothing but zeros lie at its bottom."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if low == high == 0.0:
        return -share, 1.0
    air = share * (high - low) or 0.01 * max(abs(low), 1e-12)
    return low - air, high + air


def steady(stderr: float) -> float:
    """An error that can be drawn: one that nobody knows is drawn as none."""
    return stderr if math.isfinite(stderr) else 0.0


def cut(values: Iterable[float], ceiling: float) -> list[float | None]:
    """Values as they can be drawn: none for one that is not finite, and no higher than far out of the picture.

    Browsers draw no line to a point that is millions of pixels away.
    """
    return [min(value, ceiling) if math.isfinite(value) else None for value in values]
