"""What holds at the end of a record, and the noise scale with its error."""

import math
import sqlite3
from collections.abc import Sequence
from statistics import fmean, median

from unstuck.estimate import Estimate
from unstuck.watching.files.opening import known
from unstuck.watching.files.recorded import Now, Part, Scale

# Samples that say how it stands now: those since the stall, or of the last tenth, but so many at least and at most.
_FEWEST, _MOST = 8, 200
_TENTH = 0.1

# Share of the run that the present loss is a mean over, and steps at least.
_SHARE, _LEAST = 0.01, 20

# Fewer samples have no spread to tell an error from, see watching/recent.py.
_SPREAD = 4

# Standard errors of the signal that it must lie above zero by.
_SURE = 2.0

# A signal or a noise beyond it is as good as infinite: its square may be.
_HUGE = 1e150

_COLUMNS = (
    "gradient_norm",
    "weight_norm",
    "update_norm / nullif(weight_norm, 0)",
    "gradient_cosine",
    "descent_cosine",
    "sigma_ratio",
    "unchanged",
    "overshoot",
)


def now(connection: sqlite3.Connection, number: int, curve: Sequence[Part], since: int | None) -> Now:
    """Sum up the last samples and the last steps of an optimizer."""
    steps = curve[-1].last
    start = max(1, steps - round(_TENTH * steps)) if since is None else since
    columns = ", ".join(known(connection, "samples", _COLUMNS))
    rows = connection.execute(
        f"SELECT step, {columns}, signal, noise FROM samples WHERE optimizer = ? "  # noqa: S608
        "ORDER BY step DESC LIMIT ?",
        (number, _MOST),
    ).fetchall()
    own = [row for row in rows if row[0] >= start]
    own = own if len(own) >= _FEWEST else rows[:_FEWEST]
    window = max(_LEAST, round(_SHARE * steps))
    lowest, lowest_step = min(_means(curve, window), default=(None, None))
    *middles, overshoot = ([row[1 + column] for row in own] for column in range(len(_COLUMNS)))
    gradient, weights, ratio, cosine, descent, sigma, unchanged = map(_median, middles)
    return Now(
        samples=len(own),
        window=min(window, steps),
        loss=_last_loss(connection, number, steps - window),
        lowest=lowest,
        lowest_step=lowest_step,
        rate=_last_rate(connection, number),
        steps_per_second=_pace(curve),
        gradient_norm=gradient,
        weight_norm=weights,
        ratio=ratio,
        gradient_cosine=cosine,
        descent_cosine=descent,
        sigma_ratio=sigma,
        unchanged=unchanged,
        overshoot=_mean(overshoot),
        noise=noise_scale([(row[0], row[-2], row[-1]) for row in own]),
    )


def noise_scale(rows: Sequence[tuple[int, float | None, float | None]]) -> Scale | None:
    r"""Estimate mean noise over mean signal from samples (step, signal, noise); None for too few, or no gradients.

    The error is that of a ratio of means, $s^2 = \sum_i (n_i - r s_i)^2 / (m (m - 1) \bar s^2)$ (Cochran, Sampling
    Techniques, 1977, section 6.4). Noise and signal are not independent, which it accounts for.
    """
    whole = [
        (step, s, n) for step, s, n in rows if s is not None and n is not None and max(abs(s), abs(n)) < _HUGE
    ]
    count = len(whole)
    if count < _SPREAD or not any(s or n for _, s, n in whole):
        return None
    step = math.fsum(row[0] for row in whole) / count
    signal = math.fsum(row[1] for row in whole) / count
    noise = math.fsum(row[2] for row in whole) / count
    error = math.hypot(*(row[1] - signal for row in whole)) / math.sqrt(count * (count - 1.0))
    highest = signal + _SURE * error
    if highest <= 0.0:
        return Scale(step, count, None, 0.0) if noise <= 0.0 else None
    at_least = max(noise, 0.0) / highest
    if signal <= _SURE * error:
        return Scale(step, count, None, at_least)
    ratio = noise / signal
    spread = math.hypot(*(n - ratio * s for _, s, n in whole)) / math.sqrt(count * (count - 1.0))
    return Scale(step, count, Estimate(ratio, spread / signal, count - 1.0), at_least)


def _last_loss(connection: sqlite3.Connection, number: int, after: int) -> float | None:
    (loss,) = connection.execute(
        "SELECT sum(loss * count) / sum(count) FROM steps "
        "WHERE optimizer = ? AND step > ? AND abs(loss) < 1.7e308",
        (number, after),
    ).fetchone()
    return loss


def _last_rate(connection: sqlite3.Connection, number: int) -> float | None:
    (rate,) = connection.execute(
        "SELECT rate FROM steps WHERE optimizer = ? ORDER BY rowid DESC LIMIT 1", (number,)
    ).fetchone()
    return rate


def _means(curve: Sequence[Part], window: int) -> list[tuple[float, int]]:
    """Means over successive windows, and the last step of each."""
    means: list[tuple[float, int]] = []
    total, count = 0.0, 0
    for part in curve:
        if part.mean is not None and math.isfinite(part.mean):
            total, count = total + part.mean * part.count, count + part.count
        if count >= window:
            means.append((total / count, part.last))
            total, count = 0.0, 0
    return means


def _pace(curve: Sequence[Part]) -> float | None:
    """Steps per second over the last tenth of the time."""
    last = curve[-1]
    before = [part for part in curve[:-1] if part.time <= (1.0 - _TENTH) * last.time]
    first = before[-1] if before else curve[0]
    return (last.last - first.last) / (last.time - first.time) if last.time > first.time else None


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(finite) if finite else None


def _median(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return median(finite) if finite else None
