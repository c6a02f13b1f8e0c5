"""Small trainings on real data that ships with the package, each stuck in its own way."""

from collections.abc import Callable
from dataclasses import dataclass

from unstuck.demos.critical import lecture, minimum, saddle
from unstuck.demos.moving import valley
from unstuck.findings.records import Cause
from unstuck.training import Training


@dataclass(frozen=True)
class Demo:
    """A training whose trouble is known.

    Attributes:
        name: As in `unstuck diagnose demo:NAME`.
        summary: One line: what it is and how it got stuck.
        setup: Builds the training; it takes a second or two and leaves global random state alone.
        cause: The true answer, which the tests hold the diagnosis to.
    """

    name: str
    summary: str
    setup: Callable[[], Training]
    cause: Cause


_ALL = (
    Demo("lecture", "y = w1 w2 x at (0, 0), by hand a saddle", lecture, Cause.SADDLE_POINT),
    Demo("saddle", "digits: a trained network, widened with zero units", saddle, Cause.SADDLE_POINT),
    Demo("minimum", "digits: a network with weight decay, trained to the end", minimum, Cause.LOCAL_MINIMUM),
    Demo("valley", "digits: features of very different scales, one rate", valley, Cause.ILL_CONDITIONED),
)

DEMOS: dict[str, Demo] = {demo.name: demo for demo in _ALL}
