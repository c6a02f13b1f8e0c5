r"""Where a step goes: $\theta \leftarrow \theta - \frac{\eta}{\sigma} m$, kept unevaluated until it is taken.

A rule hands a `Direction` from part to part. Its movement is the sum of few terms $\frac{a}{b} u$ over one scale
$\sigma$, and neither is multiplied out before the parameters move: so there is no temporary tensor that PyTorch's
own optimizers do without, and every rounding is theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unstuck.optim import foreach

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Term:
    r"""The tensors $\frac{a}{b} u$, one of them for every parameter; the fraction is left as it is.

    Attributes:
        tensors: $u$, in the shapes of the parameters.
        numerator: $a$.
        denominator: $b$, such as $1 - \beta^t$ where an average is corrected for its bias.
    """

    tensors: Tensors
    numerator: float = 1.0
    denominator: float = 1.0


@runtime_checkable
class Scale(Protocol):
    """What the movement of every single parameter is divided by."""

    def add(self, target: Tensors, term: Term, factor: float) -> None:
        r"""Add to `target`, in place: $\text{target} \mathrel{+}= \text{factor} \cdot \frac{a}{b} u / \sigma$."""
        ...


@dataclass(frozen=True)
class Unscaled:
    r"""$\sigma = 1$."""

    def add(self, target: Tensors, term: Term, factor: float) -> None:
        """Add a multiple of the term to `target`, in place."""
        foreach.add_(target, term.tensors, alpha=factor * term.numerator / term.denominator)


@dataclass(frozen=True)
class Divided:
    r"""Divided by $\sigma$, element by element.

    Attributes:
        sigma: $\sigma$, in the shapes of the parameters.
    """

    sigma: Tensors

    def add(self, target: Tensors, term: Term, factor: float) -> None:
        """Add a multiple of the term over sigma to `target`, in place."""
        value = factor * term.numerator / term.denominator
        foreach.addcdiv_(target, term.tensors, self.sigma, value)


@dataclass(frozen=True)
class Multiplied:
    r"""Multiplied by $\rho$ and a number, in the order that PyTorch's RAdam rounds in.

    Attributes:
        rate: $\rho = 1/\sigma$, in the shapes of the parameters; None for $\sigma = 1$.
        factor: The number.
    """

    rate: Tensors | None = None
    factor: float = 1.0

    def add(self, target: Tensors, term: Term, factor: float) -> None:
        """Add a multiple of the term times the rate to `target`, in place."""
        moved = foreach.div(term.tensors, term.denominator)
        foreach.mul_(moved, abs(factor) * term.numerator)
        if self.rate is not None:
            foreach.mul_(moved, self.rate)
            foreach.mul_(moved, self.factor)
        foreach.add_(target, moved, alpha=1.0 if factor > 0.0 else -1.0)


@dataclass(frozen=True)
class Direction:
    r"""Where the parameters go: against $\sum_k \frac{a_k}{b_k} u_k / \sigma$.

    Attributes:
        gradient: What magnitudes are told from: the gradient, decayed and clipped as the parts before have done it.
        terms: The movement's numerator.
        scale: Its denominator.
        shrinking: $\lambda$ of the decoupled weight decay, $\theta \leftarrow (1 - \eta\lambda)\theta$.
    """

    gradient: Tensors
    terms: tuple[Term, ...]
    scale: Scale = field(default_factory=Unscaled)
    shrinking: float = 0.0

    @classmethod
    def along(cls, gradient: Tensors) -> "Direction":
        """Go down the gradient itself."""
        return cls(gradient, (Term(gradient),))

    @property
    def is_gradient(self) -> bool:
        """Whether no momentum and no scale have come yet, so that movement and gradient are the same tensors."""
        return len(self.terms) == 1 and self.terms[0].tensors is self.gradient

    def moving(self, movement: Tensors) -> "Direction":
        """Go along other tensors: as another gradient, where no momentum or scale has come yet."""
        gradient = movement if self.is_gradient else self.gradient
        return replace(self, gradient=gradient, terms=(Term(movement),), scale=Unscaled())

    def movement(self) -> Tensors:
        """Multiply the movement out; the tensors may be those of a part, so they are not to be written on."""
        if isinstance(self.scale, Unscaled) and len(self.terms) == 1:
            term = self.terms[0]
            if term.numerator == term.denominator:
                return term.tensors
        moved = [torch.zeros_like(tensor) for tensor in self.terms[0].tensors]
        self.add_to(moved, 1.0)
        return moved

    def add_to(self, target: Tensors, factor: float) -> None:
        """Add a multiple of the movement to `target`, in place."""
        for term in self.terms:
            self.scale.add(target, term, factor)

    def descend(self, params: Tensors, lr: float) -> None:
        r"""Take the step: $\theta \leftarrow (1 - \eta\lambda)\theta - \eta\,(\text{movement})$, in place."""
        if self.shrinking != 0.0:
            foreach.mul_(params, 1 - lr * self.shrinking)
        self.add_to(params, -lr)
