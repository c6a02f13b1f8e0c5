"""Small trainings on real data that ships with the package, each stuck in its own way."""

from collections.abc import Callable
from dataclasses import dataclass

from unstuck.demos.critical import degenerate, lecture, maximum, minimum, plateau, saddle
from unstuck.demos.moving import bounce, healthy, noise, valley
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
    Demo(
        "degenerate",
        "digits: fitted least squares, some weights do not matter",
        degenerate,
        Cause.LOCAL_MINIMUM,
    ),
    Demo(
        "maximum", "digits: fitted least squares, the loss with the wrong sign", maximum, Cause.LOCAL_MAXIMUM
    ),
    Demo("plateau", "digits: a bounded loss, far from all targets", plateau, Cause.PLATEAU),
    Demo("valley", "digits: features of very different scales, one rate", valley, Cause.ILL_CONDITIONED),
    Demo("bounce", "digits: full-batch descent at too large a rate", bounce, Cause.STEP_TOO_LARGE),
    Demo("noise", "digits: small batches at too large a rate for them", noise, Cause.GRADIENT_NOISE),
    Demo("healthy", "digits: a network in its second epoch, doing well", healthy, Cause.HEALTHY),
)

DEMOS: dict[str, Demo] = {demo.name: demo for demo in _ALL}
