"""Attention that a live graph can differentiate twice, with the very numbers of the fused kernel.

The fused kernels of `scaled_dot_product_attention` have no second derivative. For the length of one forward pass
their place, wherever one of them is what runs, is taken by a function that computes what they compute, forward and
backward, by calling them, bit for bit; only where a gradient is asked for that shall be differentiated again is it
computed by plain products.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from unstuck.watching.graphs.graph import kind_of, leads_on, walk
from unstuck.watching.kernels.exchange import exchanged

# Operations that a kernel's result may go through before it is given.
_NEAR = 8


@contextmanager
def twice_differentiable_attention() -> Generator[None]:
    """Exchange it; whatever is called inside can be differentiated twice also after the block."""
    original: Any = functional.scaled_dot_product_attention

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,  # noqa: FBT001, FBT002 - as in PyTorch
        **others: Any,
    ) -> Tensor:
        options: dict[str, Any] = {
            "attn_mask": attn_mask,
            "dropout_p": dropout_p,
            "is_causal": is_causal,
            **others,
        }
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
        learnt_mask = attn_mask is not None and attn_mask.requires_grad
        output = original(query, key, value, **options)
        if not wanted or learnt_mask or dropout_p > 0.0 or any(map(_is_special, (query, key, value))):
            return output
        if not _is_fused(output):
            return output  # what the user differentiates twice keeps its bits, too
        with suppress(RuntimeError):  # inside a transform of torch.func
            return _Twice.apply(query, key, value, original, options)
        return output

    with exchanged(functional, "scaled_dot_product_attention", attention):
        yield


def _is_fused(output: Tensor) -> bool:
    """Whether it comes from one kernel, which has no second derivative."""
    nodes = walk([output.grad_fn], _NEAR, into=lambda node: leads_on(kind_of(node)))
    return any(kind_of(node).startswith("ScaledDotProduct") for node in nodes)


def _is_special(tensor: Tensor) -> bool:
    return type(tensor) is not Tensor


class _Twice(torch.autograd.Function):
    """The kernel's numbers; its own backward, or one by plain products that has a graph."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, original: Any, options: Any) -> Tensor:
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in (query, key, value)]
            output = original(*inputs, **options)
        ctx.save_for_backward(query, key, value)
        ctx.kernel = (inputs, output)
        ctx.original, ctx.options = original, options
        device = query.device.type
        ctx.cast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            inputs: Any = ctx.saved_tensors
            device, dtype, enabled = ctx.cast
            with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, dtype, enabled):
                output = ctx.original(*inputs, **ctx.options)
        else:
            inputs, output = ctx.kernel
        found = iter(
            torch.autograd.grad(
                output,
                [tensor for tensor, want in zip(inputs, wanted, strict=True) if want],
                gradients[0],
                create_graph=torch.is_grad_enabled(),
                retain_graph=True,
            )
        )
        return (*(next(found) if want else None for want in wanted), None, None)
