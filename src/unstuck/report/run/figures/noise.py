"""The noise scale over the run: how many batches it takes to see the way."""

import math

import plotly.graph_objects as go

from unstuck.report.figures.theme import DOWN, QUIET, UP, decades, style
from unstuck.report.run.figures.axes import over_steps
from unstuck.report.run.numbers import noise_words
from unstuck.watching.files.recorded import Course, Recorded, Scale

# Of a noise scale; below this share of a batch there is no noise to speak of.
_LEAST = 1e-2

# One or two show no course, and the last one is in the table.
_FEWEST = 3


def noise(_recorded: Recorded, course: Course) -> go.Figure | None:
    """Mean noise over mean signal in windows of equally many samples; triangles are lower bounds."""
    scales = [scale for scale in course.noise if _height(scale) > 0.0]
    if len(scales) < _FEWEST:
        return None
    known = [scale for scale in scales if scale.value is not None]
    figure = go.Figure()
    figure.add_hline(y=1.0, line={"color": QUIET, "dash": "dot", "width": 1.5})
    _points(figure, known, "with its error", "circle", UP)
    _points(
        figure, [scale for scale in scales if scale.value is None], "at least so much", "triangle-up", DOWN
    )
    heights = [_height(scale) for scale in scales]
    style(figure, "How many batches it takes to see the way", 320)
    low, high = min(*heights, 1.0) / 2.0, 2.0 * max(*heights, 1.0)
    figure.update_yaxes(title_text="noise scale, batches (log scale)", **decades(low, high))
    return over_steps(figure, course)


def _points(figure: go.Figure, scales: list[Scale], name: str, symbol: str, colour: str) -> None:
    if not scales:
        return
    errors = [scale.value.stderr if scale.value is not None else 0.0 for scale in scales]
    figure.add_scatter(
        x=[scale.step for scale in scales],
        y=[_height(scale) for scale in scales],
        # Downwards not to zero, which a logarithmic axis has not.
        error_y={
            "type": "data",
            "symmetric": False,
            "array": errors,
            "arrayminus": [
                min(error, 0.9 * _height(scale)) for error, scale in zip(errors, scales, strict=True)
            ],
            "thickness": 1.2,
            "width": 3,
            "color": colour,
        },
        mode="markers",
        marker={"symbol": symbol, "size": 8, "color": colour},
        name=name,
        showlegend=True,
        customdata=[f"{noise_words(scale)} batches, over {scale.count} samples" for scale in scales],
        hovertemplate="%{customdata}<br>about step %{x:,.0f}<extra></extra>",
    )


def _height(scale: Scale) -> float:
    value = scale.at_least if scale.value is None else scale.value.value
    return max(value, _LEAST) if math.isfinite(value) and value > 0.0 else 0.0
