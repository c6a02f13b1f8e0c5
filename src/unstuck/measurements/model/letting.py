"""Losses through which gradients pass where the model does not let them: values stay, derivatives do not."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unstuck.training import Loss

_DATA = cast("Any", torch.Tensor.data).__get__

# Their derivative is zero wherever they have one. In place their names end with an underscore.
_STEPPED = frozenset({"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"})


class Attached(TorchFunctionMode):
    """While it is active, nothing cuts a gradient off: neither `detach`, `data` nor `no_grad`."""

    _CUTS = (torch.Tensor.detach, torch.detach)

    def __torch_function__(self, func: Any, types: Iterable[Any], args: Any = (), kwargs: Any = None) -> Any:
        if func in self._CUTS or func == _DATA:
            return args[0].view_as(args[0])
        if getattr(func, "__name__", "") == "_set_grad_enabled":
            return None
        return func(*args, **(kwargs or {}))


class StraightThrough(TorchFunctionMode):
    """While it is active, step functions pass gradients on as they are (Bengio et al., 2013, section 4).

    Attributes:
        met: Names of those that a gradient would have ended at.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met: set[str] = set()

    def __torch_function__(self, func: Any, types: Iterable[Any], args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kind, given = name.removesuffix("_"), args[0] if args else None
        if kind not in _STEPPED or not isinstance(given, Tensor) or not given.requires_grad:
            return func(*args, **(kwargs or {}))
        self.met.add(kind)
        if name == kind:
            return _Through.apply(given, func(*args, **(kwargs or {})).detach())
        before = given.clone()
        return given.copy_(
            cast("Tensor", _Through.apply(before, func(*args, **(kwargs or {})).detach().clone()))
        )


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004 - as autograd hands them over
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:  # noqa: ARG004 - as autograd hands them over
        return slopes[0], None


def letting_through(loss: Loss, *modes: Callable[[], TorchFunctionMode]) -> Loss:
    """Give the same loss, computed while these modes are active."""

    def compute(model: nn.Module, batch: Any) -> Tensor:
        with warnings.catch_warnings(), ExitStack() as active:
            # PyTorch warns of numbers that are read from what requires a gradient, as `detach` avoids.
            warnings.simplefilter("ignore")
            for mode in modes:
                active.enter_context(mode())
            return loss(model, batch)

    return compute
