r"""The mean of the weights that a training passes through, by `torch.optim.swa_utils`."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from unstuck.optim.errors import OptimizerError

Forward = Callable[[nn.Module, Any], object]


def averaged(model: nn.Module, *, decay: float | None = None) -> AveragedModel:
    r"""Begin a mean of a model's weights: $\bar\theta_n = \bar\theta_{n-1} + \frac1n (\theta_n - \bar\theta_{n-1})$.

    It is stochastic weight averaging (Izmailov et al., 2018, algorithm 1); with `decay` exponential,
    $\bar\theta_n = \beta \bar\theta_{n-1} + (1 - \beta) \theta_n$ from $\bar\theta_1 = \theta_1$. Weights count from
    the first `update_parameters(model)` on, which is called after a step or an epoch; buffers are the last ones, so
    that BatchNorm needs `renew_batch_norm` in the end. SWA's own rate, which sinks to a constant and stays, is
    `schedule.settle(share, steps)`; its cycles are `restarts`.

    Args:
        model: The model that is trained; it is copied.
        decay: $\beta$; None for the mean in which all count the same.

    Returns:
        PyTorch's `AveragedModel`: a module to be evaluated, with a `state_dict` that goes on counting.

    Raises:
        OptimizerError: `decay` is not between 0 and 1.
    """
    if decay is None:
        return AveragedModel(model)
    if not 0.0 < decay < 1.0:
        msg = f"`decay` is the weight of the past in an average, between 0 and 1, not {decay}"
        raise OptimizerError(msg)
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def of_inputs(model: nn.Module, batch: Any) -> object:
    """Evaluate a model on a batch, or on what comes first in it."""
    return model(batch[0] if isinstance(batch, list | tuple) else batch)


def renew_batch_norm(model: nn.Module, batches: Iterable[Any], *, forward: Forward = of_inputs) -> None:
    """Measure the means and variances of BatchNorm anew, as averaged weights need it (Izmailov et al., 2018, §3.2).

    Layers keep their modes and momenta. A model without BatchNorm is left alone.

    Args:
        model: Whose BatchNorm it is.
        batches: An epoch, or as much of one as settles a mean: each batch counts the same.
        forward: What evaluates the model on a batch: such as the loss, where a batch is neither a tensor nor
            begins with one.

    Raises:
        OptimizerError: There is no batch. Then and whenever `forward` raises, the statistics stay what they were.
    """
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    given = iter(batches) if norms else iter(())
    first = list(islice(given, 1))
    if norms and not first:
        msg = "`batches` gave no batch: pass a DataLoader or a list with at least one"
        raise OptimizerError(msg)
    with _giving_back(model, norms):
        update_bn(([batch] for batch in chain(first, given)), _Forward(model, forward))


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _Forward(nn.Module):
    """The way that `update_bn` evaluates a batch."""

    def __init__(self, model: nn.Module, evaluate: Forward) -> None:
        super().__init__()
        self.model = model
        self._evaluate = evaluate

    def forward(self, batch: Any) -> object:
        return self._evaluate(self.model, batch)


@contextmanager
def _giving_back(model: nn.Module, norms: Sequence[Any]) -> Generator[None]:
    """Leave modes and momenta as they are; after an exception, the statistics too."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [(module, module.momentum) for module in norms]
    buffers = [(buffer, buffer.clone()) for module in norms for buffer in module.buffers()]
    try:
        yield
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    finally:
        for module, mode in modes:
            module.training = mode
        for module, momentum in momenta:
            module.momentum = momentum
