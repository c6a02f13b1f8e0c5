"""Other processes of the same training: what a look at the graph of one of them must leave alone.

Each has a graph of its own, on its part of the batch. To differentiate that by the parameters asks nothing of the
others, as the hooks that sum gradients up sit behind them. But an operation may itself talk to the others on its way
back, as synchronised batch normalisation does, and would wait for them in vain: so do none of PyTorch's own.
"""

import re
from collections.abc import Sequence

from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from unstuck.space import is_distributed
from unstuck.watching.graphs.graph import walk

# How autograd calls its own; those of others have no number, and may do anything.
_BUILT_IN = re.compile(r"[A-Za-z0-9]+Backward\d+|torch::autograd::(AccumulateGrad|CopySlices|CopyBackwards)")

# Of others, what takes the place of attention and of bags for a look, and what passes everything on as it is.
_HARMLESS = frozenset({"_TwiceBackward", "_DDPSinkBackward"})

# Operations of a graph that are looked at, at most.
_MOST = 50_000

# Seconds that a look may keep the others waiting: they give up after ten minutes by default, or what the user says.
PATIENCE = 60.0


def several() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def divided(parameters: Sequence[Tensor]) -> bool:
    """Whether parameters are shared out among the processes: without the others there is no model."""
    return any(map(is_distributed, parameters))


def defers(module: nn.Module) -> bool:
    """Whether whatever is differentiated first sets off what the processes do together."""
    return isinstance(module, DistributedDataParallel) and module.static_graph


def foreign(loss: Tensor) -> str:
    """Name an operation that may talk to other processes; empty if there is none, or nobody to talk to."""
    if not several():
        return ""
    count = 0
    for node in walk([loss.grad_fn], _MOST):
        count += 1
        name = node.name()
        if not (_BUILT_IN.fullmatch(name) or name in _HARMLESS):
            return name
    return "" if count < _MOST else "too many to look through"
