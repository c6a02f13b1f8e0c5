"""Bags of embeddings that a live graph can differentiate twice, with the very numbers of their kernel.

What a bag gives is linear in its table, so that the gradient of the table is linear in that of the bag and depends on
nothing else: the second derivative that PyTorch does not have is the bag of the direction. For the length of one
forward pass the kernel's place is taken by a function that calls it, forward and backward.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from unstuck.watching.kernels.exchange import exchanged

# How the kernel knows its modes.
_SUM, _MEAN = 0, 1

# Indices, offsets, scale_grad_by_freq, mode, sparse, per_sample_weights, include_last_offset, padding_idx.
_AS_CALLED = 8

_PLAIN = (Tensor, torch.nn.Parameter)


@contextmanager
def twice_differentiable_bags() -> Generator[None]:
    """Exchange it; whatever is called inside can be differentiated twice also after the block."""
    original: Any = torch.embedding_bag

    def embedding_bag(weight: Any, *arguments: Any, **named: Any) -> tuple[Tensor, ...]:
        results = original(weight, *arguments, **named)
        if not named and type(weight) in _PLAIN and results[0].requires_grad and _is_linear(arguments):
            with suppress(RuntimeError):  # inside a transform of torch.func
                return (_Twice.apply(weight, original, arguments), *results[1:])
        return results

    with exchanged(torch, "embedding_bag", embedding_bag):
        yield


def _is_linear(arguments: tuple[Any, ...]) -> bool:
    """Whether rows are added up as they are, into a gradient that is not sparse: as `functional` calls the kernel."""
    if len(arguments) != _AS_CALLED:
        return False
    _, _, scaled, mode, sparse, weighed, _, _ = arguments
    return mode in {_SUM, _MEAN} and weighed is None and not (scaled or sparse)


class _Twice(torch.autograd.Function):
    """The kernel's numbers, and its backward as a function of what it is given."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, original: Any, arguments: Any) -> Tensor:
        with torch.enable_grad():
            table = weight.detach().requires_grad_()
            bags = original(table, *arguments)[0]
        ctx.kernel, ctx.original, ctx.arguments = (table, bags), original, arguments
        return bags.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Back.apply(gradients[0], ctx.kernel, ctx.original, ctx.arguments), None, None


class _Back(torch.autograd.Function):
    """From the gradient of the bags to that of the table."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, kernel: tuple[Tensor, Tensor], original: Any, arguments: Any
    ) -> Tensor:
        table, bags = kernel
        ctx.original, ctx.arguments = original, arguments
        return torch.autograd.grad(bags, table, gradient, retain_graph=True)[0]

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.original(directions[0], *ctx.arguments)[0], None, None, None
