"""Whether a confidence of 0.9 is right nine times in ten."""

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.tables import Table

EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

_SIDE, _MARGIN = 300, 50

Answered = Sequence[tuple[float, bool]]


def bins(answered: Answered) -> list[tuple[float, float, int, float, float]]:
    """Give edges, count, mean confidence and share of right answers of each bin that is not empty."""
    found = []
    for low, high in pairwise(EDGES):
        those = [one for one in answered if low <= one[0] < high or (high == EDGES[-1] and one[0] == high)]
        if those:
            confidence, right = (sum(float(one[part]) for one in those) / len(those) for part in (0, 1))
            found.append((low, high, len(those), confidence, right))
    return found


def calibration(answered: Answered) -> Table:
    """Give the bins as a table, with the expected calibration error."""
    found = bins(answered)
    error = sum(count * abs(confidence - right) for _, _, count, confidence, right in found)
    brier = sum((confidence - right) ** 2 for confidence, right in answered)
    total = max(len(answered), 1)
    note = f"Of {len(answered)} answers. Expected calibration error {error / total:.3f}, Brier {brier / total:.3f}."
    rows = [(f"{low:g} to {high:g}", count, sure, right) for low, high, count, sure, right in found]
    return Table("Calibration", ("confidence", "answers", "mean confidence", "right"), rows, note)


def drawn(answered: Answered) -> str:
    """Draw the share of right answers over the confidence, as SVG; the area of a dot is the number of answers."""
    total = max(len(answered), 1)
    dots = [
        f'<circle cx="{_x(sure):.1f}" cy="{_y(right):.1f}" r="{4 + 16 * (count / total) ** 0.5:.1f}" '
        f'fill="#2b6cb0" fill-opacity="0.7"><title>{count} answers: confidence {sure:.2f}, right {right:.2f}'
        "</title></circle>"
        for _, _, count, sure, right in bins(answered)
    ]
    ticks = [
        f'<text x="{_x(tick):.0f}" y="{_y(0) + 18:.0f}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{_x(0) - 8:.0f}" y="{_y(tick) + 4:.0f}" text-anchor="end">{tick:g}</text>'
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    size = _SIDE + 2 * _MARGIN
    middle = size / 2
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
                'font-family="sans-serif" font-size="12" role="img" aria-label="Right answers over confidence">'
            ),
            f'<rect width="{size}" height="{size}" fill="white"/>',
            f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>',
            f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#999" stroke-dasharray="4"/>',
            *ticks,
            *dots,
            f'<text x="{middle:.0f}" y="{size - 10}" text-anchor="middle">confidence of the answer</text>',
            f'<text x="{middle:.0f}" y="{_MARGIN - 18}" text-anchor="middle">share of right answers</text>',
            "</svg>\n",
        ]
    )


def _x(value: float) -> float:
    return _MARGIN + _SIDE * value


def _y(value: float) -> float:
    return _MARGIN + _SIDE * (1 - value)
