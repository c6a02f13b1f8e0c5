"""For the length of one forward pass: a graph that shows more, and an eye on what forbids a look.

A look differentiates the user's graph, and whoever hangs on that graph would hear of it: gradients that are kept for
tensors inside it would be added up twice, hooks would be called, what a checkpoint computes again would move running
means. Where there is anything of the kind, nothing is looked at.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules import module as everywhere

from unstuck.watching.kernels.attention import twice_differentiable_attention
from unstuck.watching.kernels.bags import twice_differentiable_bags
from unstuck.watching.kernels.exchange import exchanged
from unstuck.watching.kernels.sequences import sequences_followed
from unstuck.watching.models import living
from unstuck.watching.others import defers, divided


class Guard:
    """Put up before a forward pass, taken down before its backward pass; knows then what was seen."""

    def __init__(self) -> None:
        self.seen = ""
        self._stack, self._shown = ExitStack(), ExitStack()
        self._shown.enter_context(twice_differentiable_attention())
        self._shown.enter_context(twice_differentiable_bags())
        self._shown.enter_context(sequences_followed())
        for holder, name, what in (
            (Tensor, "retain_grad", "it keeps gradients of tensors inside the graph (retain_grad)"),
            (Tensor, "register_hook", "it has hooks on tensors inside the graph"),
            (saved_tensors_hooks, "__enter__", "it saves tensors by hooks of its own, as checkpointing does"),
        ):
            self._stack.enter_context(exchanged(holder, name, self._watched(getattr(holder, name), what)))

    def down(self) -> None:
        """Put everything back."""
        self._shown.close()
        self._stack.close()

    def _watched(self, original: Callable[..., Any], what: str) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.seen = what
            # What is computed again must be computed as it was at first: from here on that is without us.
            self._shown.close()
            return original(*args, **kwargs)

        return watched


def obstacle(model: nn.Module | None, parameters: Sequence[Tensor]) -> str:
    """Say what forbids a look for the whole run; empty if nothing does."""
    if divided(parameters):
        return "it is one of several processes that share the parameters out among them"
    if any(getattr(parameter, "_backward_hooks", None) for parameter in parameters):
        return "there are hooks on its parameters"
    if any(vars(everywhere)[name] for name in ("_global_backward_hooks", "_global_backward_pre_hooks")):
        return "there are backward hooks on all modules"
    # Parameters that no module has, as those of a model that is a function, may meet any module on their way.
    modules = living() if model is None else model.modules()
    return next(filter(None, map(_obstacle, modules)), "")


def _obstacle(module: nn.Module) -> str:
    has = module.__dict__
    if has.get("_backward_hooks") or has.get("_backward_pre_hooks"):
        return f"there are backward hooks on its {type(module).__name__}"
    if "_orig_mod" in has.get("_modules", {}) or has.get("_compiled_call_impl") is not None:
        return "it is compiled, and compiled graphs cannot be differentiated twice"
    if defers(module):
        return "its DistributedDataParallel learns its order (static_graph) from the first gradients"
    return "it is TorchScript" if isinstance(module, torch.jit.ScriptModule) else ""
