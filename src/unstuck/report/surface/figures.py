"""Lines of equal loss, the surface to be turned, and slices through the point."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.errors import MeasurementError
from unstuck.landscape.pictures import Path, Plane, View
from unstuck.report.figures.theme import DOWN, FAR, MARK, UP, minus, style
from unstuck.report.figures.theme import cut as cut_line
from unstuck.report.numbers import digits, with_error
from unstuck.report.surface.heights import Heights, cut, filled, modelled, span, through
from unstuck.report.surface.words import PLANES

# Its lightness goes with the loss, so that it can be read in grey; for the colour-blind, too.
COLOURS = "Cividis"

_LINES = 12  # of equal loss
_COLUMNS = 2

# From here one sees over the picture's edge into the valley.
EYE = {"x": 1.6, "y": -1.6, "z": 1.15}


def contours(view: View, name: str) -> go.Figure:
    """Lines of equal loss: real on training data, by the quadratic model, and on validation data."""
    plane = _plane(view, name)
    sheets = _sheets(view, plane)
    low, top = _span(plane, sheets)
    rows, columns = -(-len(sheets) // _COLUMNS), min(_COLUMNS, len(sheets))
    made = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=list(sheets),
        horizontal_spacing=0.12,
        vertical_spacing=0.16,
    )
    words, step = PLANES[name], (top - low) / _LINES
    for index, (title, heights) in enumerate(sheets.items()):
        row, column = index // columns + 1, index % columns + 1
        made.add_contour(
            x=plane.xs,
            y=plane.ys,
            z=cut(heights, low, top),
            coloraxis="coloraxis",
            contours={
                "start": low + step,
                "end": top - 0.5 * step,
                "size": step,
                "showlabels": True,
                # White is read on the dark end of the scale, its dark edge on the light one.
                "labelfont": {
                    "size": 11,
                    "color": "#FFFFFF",
                    "shadow": "0 0 2px #000, 0 0 2px #000, 0 0 3px #000",
                },
                "labelformat": f".{digits(low, top)}~g",
            },
            line={"width": 0.8, "color": "#FFFFFF"},
            hovertemplate=f"{title}: %{{z:.4g}}<br>at %{{x:.3g}}, %{{y:.3g}}<extra></extra>",
            showlegend=False,
            row=row,
            col=column,
        )
        for marks in (*_walk(plane), _present()):
            made.add_scatter(**marks, showlegend=False, row=row, col=column)
        made.update_xaxes(title_text=words.axis(0), row=row, col=column)
        made.update_yaxes(title_text=words.axis(1) if column == 1 else None, row=row, col=column)
        if name == "random":  # one unit for both axes, and one reach
            anchor = "x" if index == 0 else f"x{index + 1}"
            made.update_xaxes(constrain="domain", row=row, col=column)
            made.update_yaxes(constrain="domain", scaleanchor=anchor, row=row, col=column)
    style(made, words.title, 420 * rows + 60)
    made.update_annotations(font={"size": 13, "color": MARK})
    return made.update_layout(coloraxis=_scale(low, top))


def surface(view: View, name: str) -> go.Figure:
    """The same as surfaces above the plane."""
    plane = _plane(view, name)
    sheets = _sheets(view, plane)
    low, top = _span(plane, sheets)
    words = PLANES[name]
    made = go.Figure()
    for index, (title, heights) in enumerate(sheets.items()):
        made.add_surface(
            x=plane.xs,
            y=plane.ys,
            z=cut(heights, low, top),
            name=title,
            showlegend=True,
            visible=True if index == 0 else "legendonly",
            coloraxis="coloraxis",
            opacity=1.0 if index == 0 else 0.6,
            contours={
                "z": {
                    "show": True,
                    "start": low,
                    "end": top,
                    "size": (top - low) / _LINES,
                    "color": "#FFFFFF",
                }
            },
            hovertemplate=f"{title}: %{{z:.4g}}<br>at %{{x:.3g}}, %{{y:.3g}}<extra></extra>",
        )
    made.add_scatter3d(
        x=[0.0],
        y=[0.0],
        z=[view.here + 0.03 * (top - low)],
        mode="markers",
        name="the weights",
        marker={"symbol": "circle", "size": 6, "color": DOWN, "line": {"color": "#FFFFFF", "width": 1}},
        hovertemplate="the weights<extra></extra>",
    )
    if plane.path is not None:
        made.add_scatter3d(**_walk_above(plane.path, low, top))
    style(made, f"{words.title}, as a surface", 540)
    return made.update_layout(
        coloraxis=_scale(low, top),
        scene={
            "xaxis": _edge(words.axis(0)),
            "yaxis": _edge(words.axis(1)),
            "zaxis": {**_edge("loss"), "range": [low, top + 0.05 * (top - low)]},
            "camera": {"eye": EYE},
            "aspectmode": "manual",
            "aspectratio": {"x": 1.1, "y": 1.1, "z": 0.75},
        },
        margin={"l": 0, "r": 0, "b": 0, "t": 44},
    )


def slices(view: View) -> go.Figure:
    """The loss along each axis through the point, and the quadratic model of it."""
    shown = [(plane, axis) for plane in view.planes if _sliced(plane) for axis in range(2)]
    if not shown:
        msg = "there are no slices: no plane was seen that has the point in its grid"
        raise MeasurementError(msg)
    rows = len(shown) // _COLUMNS
    made = make_subplots(
        rows=rows,
        cols=_COLUMNS,
        subplot_titles=[_bend(plane, axis) for plane, axis in shown],
        horizontal_spacing=0.12,
        vertical_spacing=0.3 / rows,
    )
    for index, (plane, axis) in enumerate(shown):
        row, column = index // _COLUMNS + 1, index % _COLUMNS + 1
        _slice(made, view, plane, axis, (row, column))
        words = PLANES[plane.name]
        made.update_xaxes(title_text=words.axis(axis), row=row, col=column)
        made.update_yaxes(title_text="loss" if column == 1 else None, row=row, col=column)
    style(made, "Slices through the point, and the quadratic model", 300 * rows + 80)
    made.update_layout(legend={"y": -0.16 / rows - 0.04, "yanchor": "top"}, margin_b=40)
    made.update_annotations(font={"size": 13, "color": MARK})
    return made


FIGURES: dict[str, Callable[[View], go.Figure]] = {
    "random": partial(contours, name="random"),
    "random-surface": partial(surface, name="random"),
    "hessian": partial(contours, name="hessian"),
    "hessian-surface": partial(surface, name="hessian"),
    "path": partial(contours, name="path"),
    "path-surface": partial(surface, name="path"),
    "slices": slices,
}


def available(view: View) -> tuple[str, ...]:
    """Names of the figures for which something was seen, in order of reading."""
    planes = {plane.name for plane in view.planes if plane.evaluated}
    sliced = any(_sliced(plane) for plane in view.planes)
    return tuple(
        name for name in FIGURES if (sliced if name == "slices" else name.removesuffix("-surface") in planes)
    )


def figure(view: View, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or nothing to draw.
    """
    names = available(view)
    if name not in names:
        msg = f"there is no figure {name!r}: choose one of {', '.join(names) or 'none, as nothing was seen'}"
        raise MeasurementError(msg)
    return FIGURES[name](view)


def _sliced(plane: Plane) -> bool:
    return plane.path is None and plane.evaluated > 0


def _plane(view: View, name: str) -> Plane:
    plane = view.plane(name)
    if plane is None:
        msg = f"the plane {name!r} was not looked at"
        raise MeasurementError(msg)
    return plane


def _sheets(view: View, plane: Plane) -> dict[str, Heights]:
    sheets = {"training loss": filled(plane, plane.training)}
    model = modelled(plane, view.here) if plane.name == "hessian" else None
    if model is not None:
        sheets["quadratic model"] = model
    if plane.validation:
        sheets["validation loss"] = filled(plane, plane.validation)
    return sheets


def _span(plane: Plane, sheets: dict[str, Heights]) -> tuple[float, float]:
    return span(plane, sheets.get("quadratic model"))


def _scale(low: float, top: float) -> dict[str, Any]:
    return {
        "colorscale": COLOURS,
        "cmin": low,
        "cmax": top,
        "colorbar": {
            "title": {"text": "loss", "side": "top"},
            "thickness": 14,
            "outlinewidth": 0,
            "len": 0.8,
            "tickformat": f".{digits(low, top)}~g",
        },
    }


def _edge(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "font": {"size": 12}}, "tickfont": {"size": 11}, "nticks": 6}


def _walk(plane: Plane) -> tuple[dict[str, Any], ...]:
    """The path, its first and its last place."""
    path = plane.path
    if path is None:
        return ()
    words = [
        f"step {step:,}: real loss {loss:.4g}" for step, loss in zip(path.steps, path.losses, strict=True)
    ]
    line = {
        "x": path.xs,
        "y": path.ys,
        "mode": "lines+markers",
        "line": {"color": "#FFFFFF", "width": 2},
        "marker": {"size": 5, "color": MARK, "line": {"color": "#FFFFFF", "width": 1}},
        "customdata": words,
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    ends = {
        "x": [path.xs[0], path.xs[-1]],
        "y": [path.ys[0], path.ys[-1]],
        "mode": "markers",
        "marker": {
            "size": 11,
            "symbol": ["circle", "square"],
            "color": UP,
            "line": {"color": "#FFFFFF", "width": 1.5},
        },
        "customdata": [words[0], words[-1]],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    return line, ends


def _walk_above(path: Path, low: float, top: float) -> dict[str, Any]:
    """The path at its real losses, as far as they are within the picture."""
    return {
        "x": path.xs,
        "y": path.ys,
        "z": [min(max(loss, low), top) for loss in path.losses],
        "mode": "lines+markers",
        "name": "the path, at its real loss",
        "line": {"color": UP, "width": 5},
        "marker": {"size": 3, "color": UP},
        "customdata": [f"step {step:,}" for step in path.steps],
        "hovertemplate": "%{customdata}: real loss %{z:.4g}<extra></extra>",
    }


def _present() -> dict[str, Any]:
    return {
        "x": [0.0],
        "y": [0.0],
        "mode": "markers",
        "marker": {
            "symbol": "diamond",
            "size": 11,
            "color": DOWN,
            "line": {"color": "#FFFFFF", "width": 1.5},
        },
        "hovertemplate": "the weights<extra></extra>",
    }


def _bend(plane: Plane, axis: int) -> str:
    words, quadratic = PLANES[plane.name], plane.quadratic
    if quadratic is None:
        return words.axes[axis]
    return f"{words.axes[axis]}, bend {minus(with_error((quadratic.xx, quadratic.yy)[axis]))}"


def _slice(made: go.Figure, view: View, plane: Plane, axis: int, place: tuple[int, int]) -> None:
    xs, training, validation = through(plane, axis)
    low, top = span(plane)
    ceiling = top + FAR * (top - low)
    _line(made, xs, training, "training loss", UP, "solid", ceiling, place)
    if validation:
        _line(made, xs, validation, "validation loss", DOWN, "dot", ceiling, place)
    quadratic = plane.quadratic
    if quadratic is not None:
        model = [quadratic.at(view.here, *((x, 0.0) if axis == 0 else (0.0, x))) for x in xs]
        _line(made, xs, model, "quadratic model", MARK, "dash", ceiling, place)
    shown = [v for v in (*training, *validation) if v is not None and v < top]
    bottom = min(shown, default=low)
    air = 0.08 * (top - bottom)
    made.update_yaxes(range=[bottom - air, top + air], row=place[0], col=place[1])


def _line(  # noqa: PLR0913, PLR0917 - what a line is drawn with
    made: go.Figure,
    xs: Sequence[float],
    ys: Sequence[float | None],
    name: str,
    colour: str,
    dash: str,
    ceiling: float,
    place: tuple[int, int],
) -> None:
    known = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]
    made.add_scatter(
        x=[x for x, _ in known],
        y=cut_line([y for _, y in known], ceiling),
        mode="lines" if dash == "dash" else "lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={"size": 5},
        name=name,
        legendgroup=name,
        showlegend=place == (1, 1),
        hovertemplate=f"{name} %{{y:.4g}}<br>at %{{x:.3g}}<extra></extra>",
        row=place[0],
        col=place[1],
    )
