"""Curves drawn with characters: braille dots, or marks that any terminal has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Which bit of a braille character each dot is, by column and row.
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800

# The same for characters that every terminal has: a dot above, below, both.
_PLAIN = {0: " ", 1: "'", 2: ".", 3: ":"}

# The ratio of largest to smallest value from which on a scale is logarithmic, as in the figures.
LOGARITHMIC_FROM = 20.0

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Range:
    """The values from the bottom to the top of a drawing."""

    low: float
    high: float
    logarithmic: bool

    def at(self, value: float) -> float:
        """Where a value lies, from 0 at the bottom to 1 at the top."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def spanned(points: Points) -> Range | None:
    """The range of the finite values, nothing but zeros at its bottom; None if there is none."""
    values = [value for _, value in points if value is not None and math.isfinite(value)]
    if not values:
        return None
    low, high = min(values), max(values)
    if low > 0.0 and high > LOGARITHMIC_FROM * low:
        return Range(low, high, logarithmic=True)
    if low == high == 0.0:
        return Range(0.0, 1.0, logarithmic=False)
    air = 0.0 if high > low else 0.05 * abs(high)
    return Range(low - air, high + air, logarithmic=False)


def averaged(points: Points, ends: tuple[float, float], columns: int) -> list[tuple[float, float | None]]:
    """One point for all those of a column, at the mean of their steps; what is not known stays as a gap."""
    found: list[tuple[float, float | None]] = []
    steps: list[float] = []
    values: list[float] = []
    column = -1
    for step, value in (*points, (math.inf, None)):
        here = -1 if math.isinf(step) else column_of(step, ends, columns)
        if values and (here != column or value is None or not math.isfinite(value)):
            found.append((mean(steps), mean(values)))
            steps, values = [], []
        column = here
        if value is not None and math.isfinite(value):
            steps.append(step)
            values.append(value)
        elif not math.isinf(step):
            found.append((step, None))
    return found


def mean(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum would be infinite."""
    return math.fsum(value / len(values) for value in values)


def drawn(
    points: Points, ends: tuple[float, float], range_: Range, width: int, height: int, *, ascii_only: bool
) -> list[str]:
    """Draw points joined by lines, over the steps `ends`; where a value is not known the line breaks."""
    across, down = (1, 2) if ascii_only else (2, 4)
    columns, rows = width * across, height * down
    levels = _joined(_levels(points, ends, range_, columns))
    bits = [[0] * width for _ in range(height)]
    before: int | None = None
    for column, level in enumerate(levels):
        if level is None:
            before = None
            continue
        dot = round((1.0 - min(max(level, 0.0), 1.0)) * (rows - 1))
        for row in _between(before, dot):
            bit = 1 << row % down if ascii_only else _BRAILLE[column % across][row % down]
            bits[row // down][column // across] |= bit
        before = dot
    if ascii_only:
        return ["".join(_PLAIN[bit] for bit in line) for line in bits]
    return ["".join(chr(_BLANK + bit) if bit else " " for bit in line) for line in bits]


def column_of(step: float, ends: tuple[float, float], columns: int) -> int:
    """In which column a step is."""
    first, last = ends
    share = (step - first) / (last - first) if last > first else 0.0
    return min(max(int(share * columns), 0), columns - 1)


def _levels(
    points: Points, ends: tuple[float, float], range_: Range, columns: int
) -> list[tuple[float, bool] | None]:
    """The mean level of the points of each column, and whether a value that is not known comes before it."""
    sums: list[list[float]] = [[] for _ in range(columns)]
    broken = [False] * columns
    gap = False
    for step, value in points:
        column = column_of(step, ends, columns)
        if value is None or not math.isfinite(value):
            gap = True
            continue
        broken[column] |= gap and not sums[column]
        sums[column].append(range_.at(value))
        gap = False
    return [(mean(own), gap_) if own else None for own, gap_ in zip(sums, broken, strict=True)]


def _joined(levels: Sequence[tuple[float, bool] | None]) -> list[float | None]:
    """Fill the columns between two points with the line that joins them."""
    filled: list[float | None] = [None] * len(levels)
    last: tuple[int, float] | None = None
    for column, here in enumerate(levels):
        if here is None:
            continue
        level, broken = here
        if last is not None and not broken:
            start, old = last
            for between in range(start + 1, column):
                filled[between] = old + (level - old) * (between - start) / (column - start)
        filled[column] = level
        last = column, level
    return filled


def _between(before: int | None, dot: int) -> range:
    """The dots that join one column to the next without a hole."""
    if before is None or abs(dot - before) <= 1:
        return range(dot, dot + 1)
    return range(before + 1, dot + 1) if dot > before else range(dot, before)
