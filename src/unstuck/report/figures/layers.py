"""Which units let a gradient through, layer by layer."""

import plotly.graph_objects as go

from unstuck.findings.records import Verdict
from unstuck.report.figures.bars import BAR, FRAME, short
from unstuck.report.figures.theme import DOWN, FLAT, MARK, style
from unstuck.report.numbers import percent
from unstuck.report.units import Units, counted

MOST = 16  # nonlinearities drawn; of more, those with the most flat values

PARTS = (("of dead units", MARK), ("flat in other units", DOWN), ("with a slope", FLAT))


def drawn_units(verdict: Verdict) -> tuple[Units, ...]:
    """The nonlinearities to show, in the order of execution."""
    found = verdict.measured.layers
    shown = counted(found.activations) if found else ()
    worst = sorted(range(len(shown)), key=lambda index: -max(shown[index].flat, shown[index].saturated))
    return tuple(shown[index] for index in sorted(worst[:MOST]))


def has_layers(verdict: Verdict) -> bool:
    """Whether there is any nonlinearity that was seen."""
    return bool(drawn_units(verdict))


def layers(verdict: Verdict) -> go.Figure:
    """One bar per nonlinearity, of all its values; the input is on top."""
    shown = drawn_units(verdict)
    figure = go.Figure()
    places = list(range(len(shown)))
    shares = [_parts(each) for each in shown]
    for part, (name, colour) in enumerate(PARTS):
        figure.add_bar(
            y=places,
            x=[100 * each[part] for each in shares],
            orientation="h",
            name=name,
            marker={"color": colour, "line_width": 0},
            hovertemplate=f"%{{x:.3g}} % of the values {name}<extra></extra>",
        )
    for place, each in zip(places, shown, strict=True):
        figure.add_annotation(
            x=100, y=place, text=_words(each), xanchor="left", xshift=8, showarrow=False, font={"size": 13}
        )
    style(figure, "Which units let the gradient through?", FRAME + BAR * max(len(shown), 2))
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    figure.update_yaxes(
        range=[len(shown) - 0.5, -0.5],
        tickvals=places,
        ticktext=[short(each.label) for each in shown],
        showgrid=False,
        ticks="",
        showline=False,
    )
    return figure.update_xaxes(
        title_text="share of the values, %", range=[0, 150], tickvals=[0, 25, 50, 75, 100]
    )


def _parts(units: Units) -> tuple[float, float, float]:
    dead = min(units.dead, 1.0)
    flat = max(min(units.flat, 1.0) - dead, 0.0)
    return dead, flat, max(1.0 - dead - flat, 0.0)


def _words(units: Units) -> str:
    share, what = (units.dead, "dead") if units.rectifier else (units.saturated, "saturated")
    return f"{percent(share)} of {units.units} units {what}"
