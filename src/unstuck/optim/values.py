"""Numbers of a part or of a schedule, looked at when it is made."""

import math
from numbers import Integral, Real
from typing import TypeGuard

from unstuck.optim.errors import OptimizerError


def is_real(value: object) -> TypeGuard[float]:
    """Whether it is a number, of Python or of NumPy."""
    return isinstance(value, Real)


def nonnegative(part: object, *names: str) -> None:
    """Refuse numbers of a part that are negative or not finite.

    Raises:
        OptimizerError: One of them is.
    """
    for name in names:
        value = getattr(part, name)
        if not (is_real(value) and 0.0 <= value < math.inf):
            msg = f"`{name}` must be a finite number and not negative: {part!r}"
            raise OptimizerError(msg)


def fraction(part: object, *names: str) -> None:
    """Refuse weights of an average outside [0, 1).

    Raises:
        OptimizerError: One of them is.
    """
    for name in names:
        value = getattr(part, name)
        if not (is_real(value) and 0.0 <= value < 1.0):
            msg = f"`{name}` is the weight of the past in an average, at least 0 and below 1: {part!r}"
            raise OptimizerError(msg)


def counted(name: str, value: int) -> int:
    """Refuse a count below 1.

    Raises:
        OptimizerError: It is one.
    """
    if not isinstance(value, Integral) or value < 1:
        msg = f"`{name}` must be a whole number of at least 1, not {value!r}"
        raise OptimizerError(msg)
    return value


def positive(name: str, value: float) -> float:
    """Refuse a number that is not positive and finite.

    Raises:
        OptimizerError: It is one.
    """
    if not (is_real(value) and 0.0 < value < math.inf):
        msg = f"`{name}` must be a positive finite number, not {value!r}"
        raise OptimizerError(msg)
    return value


def share(name: str, value: float) -> float:
    """Refuse a share of the rate outside [0, 1].

    Raises:
        OptimizerError: It is one.
    """
    if not (is_real(value) and 0.0 <= value <= 1.0):
        msg = f"`{name}` is a share of the rate, from 0 to 1, not {value!r}"
        raise OptimizerError(msg)
    return value
