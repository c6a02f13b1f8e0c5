"""Numbers of a part, looked at when it is made."""

import math

from unstuck.optim.errors import OptimizerError


def nonnegative(part: object, *names: str) -> None:
    """Refuse numbers of a part that are negative or not finite.

    Raises:
        OptimizerError: One of them is.
    """
    for name in names:
        value = getattr(part, name)
        if not (0.0 <= value < math.inf):
            msg = f"`{name}` must be a finite number and not negative: {part!r}"
            raise OptimizerError(msg)


def fraction(part: object, *names: str) -> None:
    """Refuse weights of an average outside [0, 1).

    Raises:
        OptimizerError: One of them is.
    """
    for name in names:
        if not (0.0 <= getattr(part, name) < 1.0):
            msg = f"`{name}` is the weight of the past in an average, at least 0 and below 1: {part!r}"
            raise OptimizerError(msg)
