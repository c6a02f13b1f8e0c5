"""A recorded run, read from its file: while it goes on, after it has ended, after it was killed.

However long the run is, what is read fits on a screen: SQLite thins the rows, optimizer by optimizer.
"""

import json
import math
import socket
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import psutil

from unstuck.errors import RunError
from unstuck.estimate import Estimate
from unstuck.watching.files.opening import find, known, opened
from unstuck.watching.files.recorded import (
    Course,
    Event,
    Glance,
    Layer,
    Layers,
    ParameterGroup,
    Part,
    Recorded,
    Sampled,
    Scale,
    State,
)
from unstuck.watching.present import noise_scale, now

# Points of a curve: as many as a wide screen has pixels across a figure.
POINTS = 1000

# Columns of a table of layers, and points of a curve of noise scales: each needs some pixels to be seen.
COLUMNS, SCALES = 120, 40

# Samples of one noise scale at least: fewer tell little of the signal.
_SAMPLES_OF_A_SCALE = 8

# Events and looks that are read, the last ones of more.
_MOST_EVENTS, _MOST_LOOKS = 500, 1000

# Seconds by which two clocks of one host may disagree on when a process began.
_SLACK = 2.0

_FINITE = "abs({0}) < 1.7e308"

# How many losses of a row are NaN: a column that files of earlier versions have not.
BROKEN = "not_a_number"

_CURVE = """
    SELECT min(step), max(step), max(time), sum(count),
           sum(CASE WHEN fine THEN loss * count END) / sum(CASE WHEN fine THEN count END),
           min(CASE WHEN fine THEN loss END), max(CASE WHEN fine THEN loss END),
           avg(rate), sum(coalesce(broken, loss IS NULL) > 0 OR coalesce(abs(loss) >= 1.7e308, 0))
    FROM (SELECT *, abs(loss) < 1.7e308 AS fine, {broken} AS broken FROM steps WHERE optimizer = ?)
    GROUP BY step / ? ORDER BY 1
"""

# Optimizers that are told of, those of most steps: of a run that makes new ones there may be thousands.
_MOST_COURSES = 12

_SAMPLED = (
    "gradient_norm",
    "weight_norm",
    "update_norm",
    "update_norm / nullif(weight_norm, 0)",
    "gradient_cosine",
    "descent_cosine",
    "sigma",
    "sigma_ratio",
    "unchanged",
    "steps_per_second",
    "overshoot",
)


def read(run: str | Path) -> Recorded:
    """Read the run of a file, or the newest of a folder.

    Raises:
        RunError: There is none, the file is no run or damaged or of a newer version, or no step was recorded.
    """
    path, others = find(run)
    with opened(path) as connection:
        about = {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM about")}
        events, left_out = _events(connection)
        ends = connection.execute(
            "SELECT optimizer, max(step), max(time) FROM steps GROUP BY optimizer ORDER BY optimizer"
        ).fetchall()
        state, detail = _state(about)
        if not ends:
            raise RunError(_empty(path, others, state))
        begun = _number(about.get("epoch")) or 0.0
        seconds = max(end[2] for end in ends)
        recorded = Recorded(path, others, about, state, detail, begun, seconds, (), events, left_out)
        shown = sorted(sorted(ends, key=lambda end: -end[1])[:_MOST_COURSES])
        courses = tuple(_course(connection, recorded, *end) for end in shown)
    return replace(recorded, optimizers=courses, optimizers_left_out=len(ends) - len(shown))


def _course(
    connection: sqlite3.Connection, recorded: Recorded, number: int, steps: int, seconds: float
) -> Course:
    name, model, parameters = connection.execute(
        "SELECT name, model, parameters FROM optimizers WHERE optimizer = ?", (number,)
    ).fetchone() or ("optimizer", None, None)
    (broken,) = known(connection, "steps", (BROKEN,))
    question = _CURVE.format(broken=broken)
    curve = tuple(Part(*row) for row in connection.execute(question, (number, _width(steps, POINTS))))
    looks = _looks(connection, number)
    (cost,) = connection.execute("SELECT total(cost) FROM samples WHERE optimizer = ?", (number,)).fetchone()
    return Course(
        number=number,
        name=name,
        model=model,
        parameters=parameters,
        steps=steps,
        seconds=seconds,
        cost=max(cost, 0.0) + math.fsum(look.seconds for look in looks),
        now=now(connection, number, curve, recorded.stalled_since(number)),
        curve=curve,
        samples=_samples(connection, number, steps),
        noise=_noise(connection, number),
        layers=_layers(connection, number, steps),
        groups=_groups(connection, number, steps),
        looks=looks,
    )


def _width(steps: int, points: int) -> int:
    """Steps of one point, such that there are no more than so many."""
    return max(1, math.ceil((steps + 1) / points))


def _samples(connection: sqlite3.Connection, number: int, steps: int) -> tuple[Sampled, ...]:
    columns = known(connection, "samples", _SAMPLED)
    means = ", ".join(f"avg(CASE WHEN {_FINITE.format(column)} THEN {column} END)" for column in columns)
    rows = connection.execute(
        f"SELECT avg(step), count(*), {means} FROM samples WHERE optimizer = ? "  # noqa: S608 - our own names
        "GROUP BY step / ? ORDER BY 1",
        (number, _width(steps, POINTS)),
    )
    return tuple(Sampled(*row) for row in rows)


def _noise(connection: sqlite3.Connection, number: int) -> tuple[Scale, ...]:
    """Over successive windows with equally many samples each; a run of days has some ten thousand of them."""
    rows = connection.execute(
        "SELECT step, signal, noise FROM samples WHERE optimizer = ? AND signal IS NOT NULL ORDER BY step",
        (number,),
    ).fetchall()
    windows = max(1, min(SCALES, len(rows) // _SAMPLES_OF_A_SCALE))
    edges = [len(rows) * index // windows for index in range(windows + 1)]
    found = [noise_scale(rows[low:high]) for low, high in pairwise(edges)]
    return tuple(scale for scale in found if scale is not None)


def _layers(connection: sqlite3.Connection, number: int, steps: int) -> Layers:
    (different,) = connection.execute(
        "SELECT count(*) FROM samples WHERE optimizer = ?", (number,)
    ).fetchone()
    width = 1 if different <= COLUMNS else _width(steps, COLUMNS)
    rows = connection.execute(
        "SELECT layer, min(rowid), step / ?, avg(step), avg(gradient_norm), "
        "avg(update_norm / nullif(weight_norm, 0)) FROM layers "
        "WHERE optimizer = ? GROUP BY layer, step / ? ORDER BY 2",
        (width, number, width),
    ).fetchall()
    columns = {column: step for _, _, column, step, _, _ in rows}
    order = {column: index for index, column in enumerate(sorted(columns))}
    found: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for layer, _, column, _, gradient, ratio in rows:
        norms, ratios = found.setdefault(layer, ([None] * len(order), [None] * len(order)))
        norms[order[column]], ratios[order[column]] = gradient, ratio
    layers = tuple(Layer(name, tuple(norms), tuple(ratios)) for name, (norms, ratios) in found.items())
    return Layers(tuple(columns[column] for column in order), layers)


def _groups(connection: sqlite3.Connection, number: int, steps: int) -> tuple[ParameterGroup, ...]:
    rows = connection.execute(
        "SELECT number, avg(step), avg(rate) FROM groups WHERE optimizer = ? GROUP BY number, step / ? ORDER BY 2",
        (number, _width(steps, COLUMNS)),
    ).fetchall()
    last = {
        group: (norm, ratio)
        for group, norm, ratio, _ in connection.execute(
            "SELECT number, gradient_norm, update_norm / nullif(weight_norm, 0), max(step) FROM groups "
            "WHERE optimizer = ? GROUP BY number ORDER BY number",
            (number,),
        )
    }
    return tuple(
        ParameterGroup(
            group,
            tuple(step for own, step, _ in rows if own == group),
            tuple(rate for own, _, rate in rows if own == group),
            norm,
            ratio,
        )
        for group, (norm, ratio) in last.items()
    )


def _looks(connection: sqlite3.Connection, number: int) -> tuple[Glance, ...]:
    rows = connection.execute(
        "SELECT step, time, seconds, document FROM looks WHERE optimizer = ? ORDER BY rowid DESC LIMIT ?",
        (number, _MOST_LOOKS),
    ).fetchall()
    return tuple(_glance(connection, number, *row) for row in reversed(rows))


def _glance(
    connection: sqlite3.Connection, number: int, step: int, time: float, seconds: float | None, text: str
) -> Glance:
    look = _document(text)
    # Steps are written down before the looks at them, and from 100 000 on several as one.
    rate = connection.execute(
        "SELECT rate FROM steps WHERE optimizer = ? AND step >= ? ORDER BY step LIMIT 1", (number, step)
    ).fetchone()
    return Glance(
        step=step,
        time=time,
        seconds=seconds or 0.0,
        rate=rate[0] if rate else None,
        gradient_norm=_number(look.get("gradient_norm")),
        lambda_min=_estimate(look.get("lambda_min")),
        lambda_max=_estimate(look.get("lambda_max")),
        judged=_estimate((look.get("lowest") or {}).get("curvature")),
        top_share=_number(look.get("top_share")),
    )


def _events(connection: sqlite3.Connection) -> tuple[tuple[Event, ...], int]:
    (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    rows = connection.execute(
        "SELECT optimizer, step, time, kind, message, document FROM events ORDER BY time DESC, rowid DESC LIMIT ?",
        (_MOST_EVENTS,),
    ).fetchall()
    events = tuple(
        Event(optimizer, step, time, kind, message, _document(text))
        for optimizer, step, time, kind, message, text in reversed(rows)
    )
    return events, count - len(events)


def _state(about: dict[str, str]) -> tuple[State, str]:
    said = about.get("state", "")
    if said != "running":
        return ("finished", "") if said == "finished" else ("stopped", said)
    host = about.get("host", "")
    if host != socket.gethostname():
        return "elsewhere", host
    return ("running", "") if _alive(about) else ("killed", "")


def _alive(about: dict[str, str]) -> bool:
    """Whether the very process that wrote it is there: another one may have its number by now."""
    try:
        process = psutil.Process(int(about["pid"]))
        own = process.create_time() <= float(about["epoch"]) + _SLACK
        return own and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError):
        return False


def _empty(path: Path, others: tuple[Path, ...], state: State) -> str:
    why = "there is none so far" if state == "running" else "it has ended before the first"
    return f"no step was recorded in {path}: {why}" + (f"; the run before: {others[0]}" if others else "")


def _document(text: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _estimate(found: Any) -> Estimate | None:
    """Read one back; what was not finite was written as null."""
    value = _number(found.get("value")) if isinstance(found, dict) else None
    if value is None:
        return None
    stderr, degrees = _number(found.get("stderr")), _number(found.get("degrees"))
    return Estimate(value, math.inf if stderr is None else stderr, math.inf if degrees is None else degrees)


def _number(found: Any) -> float | None:
    try:
        return float(found)
    except (TypeError, ValueError):
        return None
