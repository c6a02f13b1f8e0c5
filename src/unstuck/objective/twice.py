"""Kernels that autograd can differentiate only once, exchanged for those it can differentiate twice."""

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import checkpoint


@contextmanager
def differentiable_kernels(*, attention: bool = True) -> Generator[None]:
    """Let models compute the same by other means, inside the block.

    Attention by plain matrix products, since the fused kernels have no second derivative, unless nothing is
    differentiated and `attention` says so; compiled modules as the Python they were compiled from; reentrant
    checkpoints, which refuse `torch.autograd.grad`, as non-reentrant ones.
    """
    with ExitStack() as stack:
        if attention:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(value=False)
        stack.callback(setattr, checkpoint, "CheckpointFunction", checkpoint.CheckpointFunction)
        checkpoint.CheckpointFunction = _Checkpoint  # type: ignore[assignment]
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


class _Checkpoint:
    """Stands in for the autograd function of reentrant checkpoints."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:  # noqa: FBT001
        if not any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
            # There the original gives no gradients, and warns about it; neither may the stand-in.
            with torch.no_grad():
                return function(*args)
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)
