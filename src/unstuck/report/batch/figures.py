"""Batch sizes in pictures."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unstuck.batch.course import Trial
from unstuck.batch.records import Decision, Fit, Noise, Option, Scale, Sizing, seconds_per_update
from unstuck.errors import MeasurementError
from unstuck.report.figures.theme import DOWN, GREEN, MARK, QUIET, UP, decades, style
from unstuck.report.numbers import significant

# One colour a size, from small to large: dark blue to orange, told apart by lightness too (Okabe & Ito, 2008).
_RAMP = ("#0B3C5D", "#0072B2", "#56B4E9", "#009E73", "#B8A500", "#E69F00", "#D55E00", "#8C2D04", "#5B5B5B")

_POINTS = 60
_SHADE = "rgba(0,158,115,0.13)"


def time(sizing: Sizing) -> go.Figure | None:
    """Seconds of an update and of an epoch, against the size."""
    if sizing.clock is None:
        return None
    timings = sizing.clock.timings
    sizes = [timing.size for timing in timings]
    figure = _pair("one update", "one epoch" if sizing.examples else "one example")
    figure.add_scatter(
        x=sizes,
        y=[1000 * timing.seconds for timing in timings],
        error_y={
            "array": [1000 * (timing.high - timing.seconds) for timing in timings],
            "arrayminus": [1000 * (timing.seconds - timing.low) for timing in timings],
        },
        **_dots(UP, "as a batch"),
        row=1,
        col=1,
    )
    whole, total = seconds_per_update(timings, sizing.loading), sizing.examples or 1
    figure.add_scatter(
        x=sizes, y=[whole[size] * total / size for size in sizes], **_dots(DOWN, "with loading"), row=1, col=2
    )
    _axes(figure, sizes, [1000 * t.seconds for t in timings], "milliseconds", 1)
    _axes(figure, sizes, [whole[size] * total / size for size in sizes], "seconds", 2)
    _now(figure, sizing, (1, 2))
    return style(figure, "Time against batch size", 400)


def signal(sizing: Sizing) -> go.Figure | None:
    """The share of a batch's squared gradient that is the gradient of all data, against the size."""
    if sizing.noise is None or sizing.noise.simple.estimate is None:
        return None
    figure = go.Figure()
    for name, colour, scale in _scales(sizing.noise):
        _signal(figure, sizing, scale, name, colour)
    style(figure, "How much of a batch's gradient is signal", 380)
    figure.update_yaxes(title_text="share that is signal, %", range=[-4, 108])
    figure.update_xaxes(title_text="examples in a batch (log scale)")
    return figure


def sizes(sizing: Sizing) -> go.Figure | None:
    """Updates and time to a loss, against the size."""
    decision = sizing.decision
    reached = [option for option in decision.options if option.updates and option.seconds]
    if not reached:
        return None
    figure = _pair("updates", "time on this machine")
    xs = [option.size for option in reached]
    for column, unit, of in ((1, 1.0, _updates), (2, 1000.0, _seconds)):
        values = [(unit * of(option)[0], unit * of(option)[1]) for option in reached]
        figure.add_scatter(
            x=xs,
            y=[value for value, _ in values],
            error_y={"array": [error if math.isfinite(error) else 0.0 for _, error in values]},
            **_dots(UP, "branches"),
            row=1,
            col=column,
        )
        _axes(figure, xs, [value for value, _ in values], ("updates", "milliseconds")[column - 1], column)
    if decision.fit:
        _law(figure, decision.fit, xs)
    _range(figure, decision)
    _now(figure, sizing, (1, 2))
    return style(figure, f"To a loss of {significant(decision.level)}", 420)


def branches(sizing: Sizing) -> go.Figure | None:
    """The loss of each size with its best rate, against the time of its updates."""
    if sizing.course is None:
        return None
    figure = go.Figure()
    seconds = seconds_per_update(sizing.clock.timings, sizing.loading) if sizing.clock else {}
    for number, size in enumerate(sorted(sizing.course.rates)):
        for trial in sizing.course.at(size):
            _branch(figure, trial, seconds[size], _RAMP[min(number, len(_RAMP) - 1)])
    if sizing.decision.level is not None:
        figure.add_hline(y=sizing.decision.level, line={"color": QUIET, "dash": "dot", "width": 1.5})
    style(figure, "The run continued at several sizes", 420)
    figure.update_xaxes(title_text="milliseconds of updates on this machine")
    figure.update_yaxes(title_text="loss")
    return figure


def rates(sizing: Sizing) -> go.Figure | None:
    """Where the run comes to at its own size with other learning rates."""
    course = sizing.course
    if course is None:
        return None
    own = sorted(course.scanned(), key=lambda trial: trial.arm.halves)
    kept = [trial for trial in own if not trial.lost]
    if len(kept) < 2:  # noqa: PLR2004
        return None
    figure = go.Figure()
    fresh = sorted(course.anew, key=lambda trial: trial.arm.halves)
    for trials, colour, name in (
        (kept, UP, "from where it stands"),
        (fresh, GREEN, "from weights made anew"),
    ):
        come = [trial for trial in trials if not trial.lost]
        figure.add_scatter(
            x=[trial.arm.factor for trial in come],
            y=[trial.standing for trial in come],
            **_dots(colour, name) | {"showlegend": bool(fresh)},
            hovertemplate=f"{name}, %{{x:.3g}} times the rate: %{{y:.4g}}<extra></extra>",
        )
    lost = [trial.arm.factor for trial in own if trial.lost]
    if lost:
        most = max(trial.standing for trial in kept)
        figure.add_scatter(
            x=lost,
            y=[most] * len(lost),
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": DOWN},
            name="thrown out",
        )
    figure.add_vline(x=1.0, line={"color": MARK, "dash": "dot", "width": 1.5})
    style(figure, f"Other learning rates at {course.present} examples", 360)
    figure.update_xaxes(title_text="multiple of the present rate", **decades(0.02, 50.0))
    figure.update_yaxes(title_text="loss come to, those given up on after less time")
    return figure


Draw = Callable[[Sizing], go.Figure | None]

FIGURES: dict[str, Draw] = {
    "sizes": sizes,
    "branches": branches,
    "time": time,
    "signal": signal,
    "rates": rates,
}

CAPTIONS = {
    "sizes": (
        "Each point is the mean over orders of the data, at the learning rate that suited the size, with its "
        "standard error. Dashed is the law of diminishing returns through them; shaded are the recommended sizes."
    ),
    "branches": (
        "Copies of the run, from where it stands: all sizes get the same time. The dotted line is the loss that they "
        "are compared by."
    ),
    "time": "Left, forward, backward and step; medians with 95 % intervals. Right, all the data once.",
    "signal": (
        "Where the curve is low, batches twice as large save nearly half of the updates; where it is high, hardly "
        "any."
    ),
    "rates": "The size of a batch cannot be judged at a rate that is far off; the dotted line is the run's own.",
}


def figure(sizing: Sizing, name: str) -> go.Figure:
    """Draw one of them.

    Raises:
        MeasurementError: There is none of that name, or what it would show was not measured.
    """
    drawn = FIGURES[name](sizing) if name in FIGURES else None
    if drawn is None:
        there = ", ".join(each for each, draw in FIGURES.items() if draw(sizing) is not None)
        msg = f"no figure {name!r}; there are: {there}"
        raise MeasurementError(msg)
    return drawn


def _pair(left: str, right: str) -> go.Figure:
    return make_subplots(rows=1, cols=2, subplot_titles=(left, right), horizontal_spacing=0.12)


def _dots(colour: str, name: str) -> dict[str, object]:
    line = {"color": colour, "width": 2}
    return {"mode": "lines+markers", "line": line, "marker": {"size": 7}, "name": name, "showlegend": False}


def _axes(figure: go.Figure, xs: Sequence[int], ys: Sequence[float], unit: str, column: int) -> None:
    figure.update_xaxes(
        title_text="examples in a batch", **decades(min(xs) / 1.3, max(xs) * 1.3), row=1, col=column
    )
    known = [y for y in ys if 0.0 < y < math.inf] or [1.0]
    figure.update_yaxes(title_text=unit, **decades(min(known) / 1.6, max(known) * 1.6), row=1, col=column)


def _now(figure: go.Figure, sizing: Sizing, columns: Sequence[int]) -> None:
    for column in columns:
        figure.add_vline(
            x=sizing.present,
            line={"color": MARK, "dash": "dot", "width": 1.5},
            row=1,  # type: ignore[arg-type]  # the stubs know "all" alone
            col=column,  # type: ignore[arg-type]
        )


def _range(figure: go.Figure, decision: Decision) -> None:
    if decision.low is None or decision.high is None:
        return
    for column in (1, 2):
        figure.add_vrect(
            x0=decision.low / 1.15,
            x1=decision.high * 1.15,
            fillcolor=_SHADE,
            line_width=0,
            layer="below",
            row=1,  # type: ignore[arg-type]
            col=column,  # type: ignore[arg-type]
        )


def _law(figure: go.Figure, fit: Fit, xs: Sequence[int]) -> None:
    low, high = min(xs), max(xs)
    dense = sorted({round(low * (high / low) ** (index / (_POINTS - 1))) for index in range(_POINTS)})
    figure.add_scatter(
        x=dense,
        y=[fit.updates(size) for size in dense],
        mode="lines",
        line={"color": GREEN, "width": 1.5, "dash": "dash"},
        name="law",
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )


def _branch(figure: go.Figure, trial: Trial, seconds: float, colour: str) -> None:
    figure.add_scatter(
        x=[1000 * steps * seconds for steps, _ in trial.looks],
        y=[loss if math.isfinite(loss) else None for _, loss in trial.looks],
        mode="lines",
        line={"color": colour, "width": 1.8},
        opacity=0.8,
        name=f"{trial.arm.size}",
        legendgroup=f"{trial.arm.size}",
        showlegend=trial.order <= 1,
        hovertemplate=f"{trial.arm.size} examples: %{{y:.4g}}<extra></extra>",
    )


def _scales(noise: Noise) -> list[tuple[str, str, Scale]]:
    every = (("simple", UP, noise.simple), ("curvature-weighted", DOWN, noise.curved))
    metric = (("in the optimizer's metric", GREEN, noise.metric),)
    return [(name, colour, scale) for name, colour, scale in (*every, *metric) if scale and scale.estimate]


def _signal(figure: go.Figure, sizing: Sizing, scale: Scale, name: str, colour: str) -> None:
    assert scale.estimate is not None  # noqa: S101  # as `_scales` made sure
    value = scale.estimate.value
    first, last = min(sizing.present, value) / 16.0, max(sizing.present, value) * 16.0
    dense = [first * (last / first) ** (index / (_POINTS - 1)) for index in range(_POINTS)]
    figure.add_scatter(
        x=dense,
        y=[100.0 / (1.0 + value / size) for size in dense],
        mode="lines",
        line={"color": colour, "width": 2},
        name=f"{name}: {significant(value)}",
        showlegend=True,
        hovertemplate="batch of %{x:.3g}: %{y:.3g} % signal<extra></extra>",
    )
    figure.add_scatter(
        x=[sizing.present],
        y=[100.0 / (1.0 + value / sizing.present)],
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": colour},
        showlegend=False,
        hovertemplate="the present size: %{y:.3g} % signal<extra></extra>",
    )
    figure.update_xaxes(**decades(first, last))


def _updates(option: Option) -> tuple[float, float]:
    return (option.updates.value, option.updates.stderr) if option.updates else (math.inf, 0.0)


def _seconds(option: Option) -> tuple[float, float]:
    return (option.seconds.value, option.seconds.stderr) if option.seconds else (math.inf, 0.0)
