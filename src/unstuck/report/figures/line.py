"""The real loss along each way down: how far the best step is from the one that is taken."""

import math

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Route
from unstuck.report.figures.theme import DOWN, FAR, GREEN, MARK, QUIET, UP, cut, decades, style
from unstuck.report.words import route_name

LOOKS = {"gradient": (UP, "circle"), "krylov": (GREEN, "square"), "curvature": (DOWN, "triangle-up")}
SMALLEST_DROP = 1e-3  # of the loss: a smaller decrease must look like none
HEADROOM = 0.8  # what is shown above the present loss, in units of the largest decrease


def drawn_routes(verdict: Verdict) -> tuple[Route, ...]:
    """The routes whose real loss was looked at on the way."""
    return tuple(route for route in verdict.measured.routes if route.name in LOOKS and route.distances)


def line(verdict: Verdict) -> go.Figure:
    """Loss against step length, both as measured; the present loss and the present step are marked."""
    routes = drawn_routes(verdict)
    present = present_step(verdict)
    figure = go.Figure()
    bottom, top = _heights(routes, verdict.measured.scale)
    for route in routes:
        _curve(figure, route, present or 1.0, top + FAR * (top - bottom))
    here = routes[0].losses[0]
    figure.add_hline(y=here, line={"color": QUIET, "dash": "dash", "width": 1.5})
    _label(figure, "the loss here", x=0.0, y=here, xref="x domain", xanchor="left", yanchor="bottom")
    style(figure, "The real loss along each way down", 420)
    low, high = _lengths(routes, present)
    if present is not None:
        figure.add_vline(x=1.0, line={"color": MARK, "dash": "dot", "width": 1.5})
        side = "left" if low * high > 1.0 else "right"
        _label(figure, "present step", x=0.0, y=1.0, yref="y domain", xanchor=side, yanchor="top")
    unit = "length of the step" if present is None else "length of the step, as a multiple of the present one"
    figure.update_xaxes(**decades(low, high), title_text=f"{unit} (log scale)")
    figure.update_yaxes(title_text="loss", range=[bottom, top])
    return figure


def present_step(verdict: Verdict) -> float | None:
    """Length of the step that the optimizer takes now, as the routes were compared with it."""
    for name in ("gradient", "full", "now"):
        route = verdict.measured.route(name)
        if route is not None and route.multiple and route.distance > 0:
            return route.distance / route.multiple
    return None


def _lengths(routes: tuple[Route, ...], present: float | None) -> tuple[float, float]:
    """The lengths that were tried, and the present one, with some air on both sides."""
    tried = [distance / (present or 1.0) for route in routes for distance in route.distances if distance > 0]
    tried += [1.0] if present else []
    return min(tried) / 1.5, 1.5 * max(tried)


def _curve(figure: go.Figure, route: Route, unit: float, ceiling: float) -> None:
    colour, symbol = LOOKS[route.name]
    shown = [
        (distance / unit, loss)
        for distance, loss in zip(route.distances, route.losses, strict=True)
        if distance > 0 and math.isfinite(loss)
    ]
    figure.add_scatter(
        x=[distance for distance, _ in shown],
        y=cut((loss for _, loss in shown), ceiling),
        customdata=[loss for _, loss in shown],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "size": 7, "color": colour},
        name=route_name(route.name),
        showlegend=True,
        hovertemplate="loss %{customdata:.4g}<br>after a step of %{x:.3g}<extra>"
        + route_name(route.name)
        + "</extra>",
    )


def _label(figure: go.Figure, text: str, **where: object) -> None:
    figure.add_annotation(
        text=text,
        showarrow=False,
        xshift=-4 if where["xanchor"] == "right" else 4,
        font={"size": 12, "color": QUIET},
        bgcolor="rgba(255,255,255,0.75)",
        **where,
    )


def _heights(routes: tuple[Route, ...], scale: float) -> tuple[float, float]:
    """From the best loss to a little above the present one; the walls of a valley go much higher."""
    here = routes[0].losses[0]
    finite = [loss for route in routes for loss in route.losses if math.isfinite(loss)]
    drop = max(here - min(finite), SMALLEST_DROP * scale)
    top = here + HEADROOM * drop if max(finite) > here else here
    return here - 1.15 * drop, top + 0.15 * drop
