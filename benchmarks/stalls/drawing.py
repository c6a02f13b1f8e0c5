"""The share of stalls that were told over the delay, as SVG."""

import math
from collections.abc import Sequence

_WIDE, _HIGH, _MARGIN = 480, 300, 60
_LOWEST, _HIGHEST = 0.1, 100.0
_COLOURS = ("#1a365d", "#2b6cb0", "#63b3ed", "#c05621", "#718096")


def drawn(lines: dict[str, Sequence[float]]) -> str:
    """Draw a stair for each series of delays in units of the onset; what was never told never adds to it."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE + 2 * _MARGIN} {_HIGH + 2 * _MARGIN}" '
            f'width="{_WIDE + 2 * _MARGIN}" height="{_HIGH + 2 * _MARGIN}" font-family="sans-serif" '
            'font-size="12" role="img" aria-label="Share of stalls told over the delay">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_WIDE}" height="{_HIGH}" fill="none" stroke="#999"/>',
        *(_tick(value) for value in (0.1, 1.0, 10.0, 100.0)),
        *(
            f'<text x="{_MARGIN - 8}" y="{_y(share) + 4:.0f}" text-anchor="end">{share:.0%}</text>'
            for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        (
            f'<line x1="{_MARGIN}" y1="{_y(0.5)}" x2="{_MARGIN + _WIDE}" y2="{_y(0.5)}" stroke="#ccc" '
            'stroke-dasharray="4"/>'
        ),
    ]
    for number, (name, delays) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += [
            f'<polyline points="{_stair(delays)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{_MARGIN + _WIDE - 150}" y="{_y(0) - 80 + 16 * number:.0f}" fill="{colour}">{name}</text>',
        ]
    return "\n".join(
        [
            *parts,
            (
                f'<text x="{_MARGIN + _WIDE / 2:.0f}" y="{_HIGH + 2 * _MARGIN - 14}" text-anchor="middle">'
                "delay over the onset</text>"
            ),
            f'<text x="{_MARGIN}" y="{_MARGIN - 16}">share of stalls that were told</text>',
            "</svg>\n",
        ]
    )


def _stair(delays: Sequence[float]) -> str:
    share, points = 0.0, [f"{_MARGIN},{_y(0.0):.1f}"]
    for delay in sorted(one for one in delays if math.isfinite(one)):
        points.append(f"{_x(delay):.1f},{_y(share):.1f}")
        share += 1 / len(delays)
        points.append(f"{_x(delay):.1f},{_y(share):.1f}")
    return " ".join([*points, f"{_MARGIN + _WIDE},{_y(share):.1f}"])


def _tick(value: float) -> str:
    return f'<text x="{_x(value):.0f}" y="{_MARGIN + _HIGH + 18}" text-anchor="middle">{value:g}</text>'


def _x(delay: float) -> float:
    span = math.log(_HIGHEST / _LOWEST)
    return _MARGIN + _WIDE * math.log(min(max(delay, _LOWEST), _HIGHEST) / _LOWEST) / span


def _y(share: float) -> float:
    return _MARGIN + _HIGH * (1 - share)
