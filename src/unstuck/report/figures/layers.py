"""Which units let a gradient through, layer by layer."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.measurements.records import Activation
from unstuck.report.figures.bars import BAR, FRAME, short
from unstuck.report.figures.theme import DOWN, FLAT, MARK, UP, style
from unstuck.report.numbers import percent

MOST = 16  # layers drawn; of more, those with the most flat values

# Parts of a layer, from nothing gets through to all does.
PARTS = (("dead: flat on all examples", MARK), ("flat elsewhere", DOWN), ("with a slope", UP))


def drawn_activations(verdict: Verdict) -> tuple[Activation, ...]:
    """The nonlinearities to show, in the order of execution."""
    found = verdict.measured.layers
    shown = found.activations if found else ()
    if len(shown) > MOST:
        worst = sorted(range(len(shown)), key=lambda index: -max(shown[index].flat, shown[index].saturated))[
            :MOST
        ]
        shown = tuple(shown[index] for index in sorted(worst))
    return shown


def has_layers(verdict: Verdict) -> bool:
    """Whether there is any nonlinearity that was seen."""
    return bool(drawn_activations(verdict))


def layers(verdict: Verdict) -> go.Figure:
    """One bar per nonlinearity, of all its values; the input is on top."""
    shown = drawn_activations(verdict)
    figure = go.Figure()
    labels = [f"{number}. {each.op} after {short(each.name)}" for number, each in enumerate(shown, start=1)]
    for (name, colour), shares in zip(PARTS, zip(*map(_parts, shown), strict=True), strict=True):
        figure.add_bar(
            y=labels,
            x=[100 * share for share in shares],
            orientation="h",
            name=name,
            marker={"color": colour if colour != UP else FLAT, "line_width": 0},
            hovertemplate=f"%{{x:.3g}} % of the values {name}<extra>%{{y}}</extra>",
        )
    for label, each in zip(labels, shown, strict=True):
        figure.add_annotation(
            x=100, y=label, text=_words(each), xanchor="left", xshift=8, showarrow=False, font={"size": 13}
        )
    style(figure, "Which units let the gradient through?", FRAME + BAR * max(len(shown), 2))
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", showline=False)
    return figure.update_xaxes(
        title_text="share of the values, %", range=[0, 150], tickvals=[0, 25, 50, 75, 100]
    )


def _parts(layer: Activation) -> tuple[float, float, float]:
    dead = min(layer.dead, 1.0)
    flat = max(min(layer.flat, 1.0) - dead, 0.0)
    return dead, flat, max(1.0 - dead - flat, 0.0)


def _words(layer: Activation) -> str:
    words = f"{percent(layer.dead)} of {layer.units} units dead" if layer.kind == "rectifier" else ""
    if not words:
        words = f"{percent(layer.saturated)} of {layer.units} units saturated"
    return words
