r"""A rule: parts that turn a gradient into a movement, one after the other.

A part is two functions, as in optax (DeepMind, 2020). `start` makes what it remembers of every parameter, `step`
turns one direction into the next and writes on nothing but what it remembers. The rest, such as the correction of a
bias, is a function of the part's age.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain as flatten
from typing import ClassVar

import torch
from torch import Tensor

from unstuck.optim.direction import Direction, Tensors
from unstuck.optim.errors import OptimizerError


class Role(StrEnum):
    r"""What a part does in $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$: one is the momentum, one the scale."""

    CLIP = "clip by the norm"
    GRADIENT = "gradient"
    MOMENTUM = "momentum"
    SCALE = "scale"
    MOVEMENT = "movement"


@dataclass(frozen=True)
class Moment:
    """When and where a part takes its step.

    Attributes:
        params: The parameters, or equal slices of all that belongs to them. They are not to be written on.
        memory: What is remembered of them, by slot, to be written on by the part whose slot it is.
        age: How many steps the part has taken for them, with this one: 1 in the first.
        gradient_norm: The norm of all gradients of the optimizer together, computed when first asked for.
    """

    params: Tensors
    memory: Mapping[str, Tensors]
    age: int
    gradient_norm: Callable[[], Tensor]


class Part(ABC):
    """One part of a rule: a frozen dataclass of numbers, and two functions.

    Attributes:
        role: Whether it is the momentum, the scale, or changes the gradient before or the movement after them.
        slots: Names of what it remembers, those of `torch.optim` where it has the same.
        layerwise: Whether it must see each parameter whole, since it takes norms.
    """

    role: ClassVar[Role] = Role.GRADIENT
    slots: ClassVar[tuple[str, ...]] = ()
    layerwise: ClassVar[bool] = False

    def start(self, param: Tensor) -> Mapping[str, Tensor]:
        """Make what is remembered of a parameter before its first step: by slot, zeros of the parameter's shape."""
        return {slot: torch.zeros_like(param) for slot in self.slots}

    @abstractmethod
    def step(self, direction: Direction, moment: Moment) -> Direction:
        """Turn the direction that comes into the one that goes on, and write what is remembered in place."""


@dataclass(frozen=True, repr=False)
class Rule:
    """Parts in the order in which they see the gradient; made by `chain`.

    Attributes:
        parts: The parts, at most one of them the momentum and at most one the scale.
    """

    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.parts))})"

    @property
    def layerwise(self) -> bool:
        """Whether any part must see each parameter whole."""
        return any(part.layerwise for part in self.parts)

    def part(self, role: Role) -> Part | None:
        """Find the part with a role."""
        return next((part for part in self.parts if part.role is role), None)

    def replaced(self, role: Role, new: Part | None) -> "Rule":
        """Put another part in the place of the one with this role, or none.

        Where there was none, a momentum comes before the scale and a scale after the momentum, as in Adam; and both
        after what changes the gradient, before what changes the whole movement.
        """
        news = () if new is None else (new,)
        old = self.part(role)
        if old is None:
            place = self._place(role)
            return chain(*self.parts[:place], *news, *self.parts[place:])
        return chain(*flatten.from_iterable(news if part is old else (part,) for part in self.parts))

    def _place(self, role: Role) -> int:
        roles = [part.role for part in self.parts]
        if role is Role.SCALE and Role.MOMENTUM in roles:
            return roles.index(Role.MOMENTUM) + 1
        following = (Role.SCALE, Role.MOVEMENT)
        return next((place for place, role in enumerate(roles) if role in following), len(roles))


def chain(*parts: Part | Rule) -> Rule:
    r"""Compose a rule of parts and of rules; `chain()` is gradient descent.

    The order matters where it does in mathematics: a decay before the momentum is coupled to it, one after is not; a
    heavy ball before the scale is Adam's, one after it is RMSProp's.

    Raises:
        OptimizerError: Something is neither a part nor a rule; there are two momenta or two scales, though
            $\frac{\eta}{\sigma} m$ has one of each; or the norm of the gradient would be clipped after the gradient
            has been changed.
    """
    flat = tuple(flatten.from_iterable(map(_parts, parts)))
    for role in (Role.CLIP, Role.MOMENTUM, Role.SCALE):
        same = [part for part in flat if part.role is role]
        if len(same) > 1:
            msg = f"a rule has one {role} at most, not {same[0]!r} and {same[1]!r}"
            raise OptimizerError(msg)
    if any(part.role is Role.CLIP for part in flat[1:]):
        msg = "ClipByNorm goes by the norm of all gradients as they come: put it first in the chain"
        raise OptimizerError(msg)
    return Rule(flat)


def _parts(given: object) -> tuple[Part, ...]:
    match given:
        case Rule():
            return given.parts
        case Part():
            return (given,)
        case _:
            name = getattr(given, "__name__", None)
            asked = f"; call it: {name}()" if callable(given) and name else ""
            msg = f"a rule is made of parts such as HeavyBall(0.9), not of {given!r}{asked}"
            raise OptimizerError(msg)
