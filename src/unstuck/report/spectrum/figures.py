"""The eigenvalues, of the Hessian and in the optimizer's metric."""

import plotly.graph_objects as go

from unstuck.errors import MeasurementError
from unstuck.landscape.bends import Bending
from unstuck.report.figures.spectrum import drawn
from unstuck.report.spectrum.words import TITLES


def available(bending: Bending) -> tuple[str, ...]:
    """Names of the figures for which something was measured."""
    return tuple(spread.name for spread in bending.spreads)


def figure(bending: Bending, name: str) -> go.Figure:
    """Draw one figure by its name.

    Raises:
        MeasurementError: There is no figure of that name, or nothing to draw.
    """
    spread = bending.spread(name)
    if spread is None:
        names = ", ".join(available(bending)) or "none, as nothing was measured"
        msg = f"there is no figure {name!r}: choose one of {names}"
        raise MeasurementError(msg)
    return drawn(spread.spectrum, (spread.judged_lowest, spread.judged_highest), TITLES[name])
