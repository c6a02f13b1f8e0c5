"""The eigenvalues, of the Hessian and in the optimizer's metric."""

from collections.abc import Sequence

import plotly.graph_objects as go

from unstuck.errors import MeasurementError
from unstuck.landscape.bends import Bending, Block
from unstuck.report.figures.signed_axis import SignedAxis
from unstuck.report.figures.spectrum import drawn
from unstuck.report.figures.theme import DOWN, QUIET, UP, minus, steady, style
from unstuck.report.numbers import with_error
from unstuck.report.spectrum.words import LAYERS, TITLES

# Within this share of the largest the axis is linear: there an eigenvalue counts as flat.
_LINEAR = 1e-3

# Pixels of one layer, and around all of them.
_ROW, _FRAME = 28, 160


def available(bending: Bending) -> tuple[str, ...]:
    """Names of the figures for which something was measured."""
    return (*(spread.name for spread in bending.spreads), *(("blocks",) if bending.blocks else ()))


def figure(bending: Bending, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or nothing to draw.
    """
    if name == "blocks" and bending.blocks:
        return layered(bending.blocks)
    spread = bending.spread(name)
    if spread is None:
        names = ", ".join(available(bending)) or "none, as nothing was measured"
        msg = f"there is no figure {name!r}: choose one of {names}"
        raise MeasurementError(msg)
    return drawn(spread.spectrum, (spread.judged_lowest, spread.judged_highest), TITLES[name])


def layered(blocks: Sequence[Block]) -> go.Figure:
    """Draw both ends of every layer by itself, the first on top, on an axis that is linear around zero."""
    values = [each.value for block in blocks for each in (block.lambda_min, block.lambda_max)]
    axis = SignedAxis(_LINEAR * max(map(abs, values)) or 1.0)
    figure = go.Figure()
    names = [block.name for block in blocks]
    ends = (
        ("smallest", DOWN, [block.lambda_min for block in blocks]),
        ("largest", UP, [block.lambda_max for block in blocks]),
    )
    for name, colour, found in ends:
        figure.add_scatter(
            x=[axis.at(each.value) for each in found],
            y=names,
            name=name,
            mode="markers",
            marker={"color": colour, "size": 10},
            error_x={
                "array": [axis.at(each.value + steady(each.stderr)) - axis.at(each.value) for each in found],
                "arrayminus": [
                    axis.at(each.value) - axis.at(each.value - steady(each.stderr)) for each in found
                ],
                "color": colour,
            },
            customdata=[minus(with_error(each)) for each in found],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    figure.add_vline(x=0.0, line={"color": QUIET, "width": 1})
    style(figure, LAYERS, _FRAME + _ROW * len(blocks))
    positions, labels = axis.ticks(min(*values, 0.0), max(*values, axis.unit))
    figure.update_xaxes(title_text="eigenvalue", tickvals=positions, ticktext=labels)
    return figure.update_yaxes(autorange="reversed", type="category", showgrid=True)
