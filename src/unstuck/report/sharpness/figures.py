"""The loss along directions: each in a panel of its own width, and all at one scale."""

import math
from collections.abc import Callable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.errors import MeasurementError
from unstuck.landscape.records import Profile, Survey
from unstuck.report.figures.theme import DOWN, FAR, GREEN, MARK, QUIET, UP, cut, minus, style
from unstuck.report.numbers import with_error
from unstuck.report.sharpness.words import DIRECTIONS_OF

# Of the rise that profiles are compared by: how much of it is shown above the higher of both losses.
_HEADROOM = 1.5

_COLOURS = {"random": QUIET, "filters": GREEN, "top": DOWN, "second": UP}

_COLUMNS = 2


def profiles(survey: Survey) -> go.Figure:
    """Training and validation loss, one panel a direction."""
    shown = survey.profiles
    rows = -(-len(shown) // _COLUMNS)
    titles = [f"{DIRECTIONS_OF[p.name]}<br>bend {minus(with_error(p.curvature))}" for p in shown]
    made = make_subplots(
        rows=rows,
        cols=min(_COLUMNS, len(shown)),
        subplot_titles=titles,
        horizontal_spacing=0.1,
        vertical_spacing=0.36 / rows,
    )
    bottom, top = _heights(survey)
    for index, profile in enumerate(shown):
        row, column = index // _COLUMNS + 1, index % _COLUMNS + 1
        _lines(made, profile, (row, column), top + FAR * (top - bottom))
        ends = [profile.distances[0], profile.distances[-1]]
        made.update_xaxes(range=ends, title_text="distance" if row == rows else None, row=row, col=column)
        made.update_yaxes(
            range=[bottom, top], title_text="loss" if column == 1 else None, row=row, col=column
        )
    style(made, "Training and validation loss around the weights", 280 * rows + 80)
    made.update_layout(legend={"y": -0.14, "yanchor": "top"}, margin_b=40)
    made.update_annotations(font={"size": 13, "color": MARK})
    return made


def widths(survey: Survey) -> go.Figure:
    """The training loss along every direction, over each other."""
    bottom, top = _heights(survey)
    made = go.Figure()
    for profile in survey.profiles:
        made.add_scatter(
            x=profile.distances,
            y=cut(profile.training, top + FAR * (top - bottom)),
            mode="lines",
            line={"color": _COLOURS[profile.name], "width": 2},
            name=DIRECTIONS_OF[profile.name],
            hovertemplate="loss %{y:.4g}<br>at distance %{x:.3g}<extra></extra>",
        )
    style(made, "Sharp and flat directions at one scale", 380)
    made.update_yaxes(title_text="training loss", range=[bottom, top])
    return made.update_xaxes(title_text="distance from the weights")


FIGURES: dict[str, Callable[[Survey], go.Figure]] = {"profiles": profiles, "widths": widths}


def figure(survey: Survey, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or nothing to draw.
    """
    if name not in FIGURES or not survey.profiles:
        names = ", ".join(FIGURES) if survey.profiles else "none: the loss along directions was not measured"
        msg = f"there is no figure {name!r}: choose one of {names}"
        raise MeasurementError(msg)
    return FIGURES[name](survey)


def _lines(made: go.Figure, profile: Profile, place: tuple[int, int], ceiling: float) -> None:
    row, column = place
    evaluated = [not interpolated for interpolated in profile.interpolated]
    both = (("training", profile.training, UP), ("validation", profile.validation, DOWN))
    for name, losses, colour in both:
        if losses:
            made.add_scatter(
                x=profile.distances,
                y=cut(losses, ceiling),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 5, "opacity": [float(each) for each in evaluated] or 1.0},
                name=name,
                legendgroup=name,
                showlegend=place == (1, 1),
                hovertemplate=f"{name} loss %{{y:.4g}}<br>at distance %{{x:.3g}}<extra></extra>",
                row=row,
                col=column,
            )


def _heights(survey: Survey) -> tuple[float, float]:
    """From the lowest loss to a little above the point; the walls go much higher."""
    losses = [y for p in survey.profiles for y in (*p.training, *p.validation) if math.isfinite(y)]
    here = survey.loss.value if survey.validation is None else max(survey.loss.value, survey.validation.value)
    top = here + _HEADROOM * survey.rise
    low = min(losses)
    return low - 0.06 * (top - low), top
