r"""SWAP: a large batch as far as it goes well, small ones apart from each other, and the mean of what they find."""

import copy
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from unstuck.optim.averaging import averaged, renew_batch_norm
from unstuck.optim.errors import OptimizerError
from unstuck.optim.schedule import Schedule
from unstuck.optim.schedules import constant
from unstuck.optim.values import counted

Loss = Callable[[nn.Module, Any], Tensor]
Keep = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Stage:
    """One phase of SWAP.

    Attributes:
        batches: Makes an epoch, in an order drawn by the generator that it is given, such as
            `lambda generator: DataLoader(data, 512, shuffle=True, generator=generator)`.
        optimizer: Makes an optimizer for the parameters of the model that it is given.
        steps: How many updates, if `until` does not end it before.
        schedule: Factor of the optimizer's rate for every update.
        until: Asked after every epoch, with the model in evaluation mode, whether it is enough: such as
            `lambda model: accuracy(model, data) >= 0.98`.

    Raises:
        OptimizerError: `steps` is below 1, or what should be a function is none.
    """

    batches: Callable[[torch.Generator], Iterable[Any]]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    steps: int
    schedule: Schedule | None = None
    until: Callable[[nn.Module], bool] | None = None

    def __post_init__(self) -> None:
        counted("steps", self.steps)
        for name, like in (
            ("batches", "lambda generator: DataLoader(data, 512, shuffle=True, generator=generator)"),
            ("optimizer", "lambda model: Optimizer(model.parameters(), momentum(), lr=0.1)"),
        ):
            if not callable(getattr(self, name)):
                msg = f"`{name}` must be a function, such as {like}, not {type(getattr(self, name)).__name__}"
                raise OptimizerError(msg)


@dataclass(frozen=True)
class Swap:
    r"""Stochastic weight averaging in parallel (Gupta, Serrano & DeCoste, 2020, algorithm 1).

    One model is trained with large batches until a training accuracy or a number of updates; then copies of it, apart
    from each other, with small batches in orders of their own; the result is $\frac1K \sum_k \theta_k$ with the
    statistics of BatchNorm measured anew. The copies need nothing of each other. Here one is trained after the other,
    so that the time of one process is that of all; each is the same whatever came before it.

    Attributes:
        loss: The loss of a model on a batch, as `unstuck.Training` takes it.
        large: The first phase.
        small: The second one, of every copy.
        copies: $K$; the paper has 8.
        seed: Of the orders, and of what the model and the loss draw from PyTorch's generators, which are put back.

    Raises:
        OptimizerError: `copies` is below 1.
    """

    loss: Loss
    large: Stage
    small: Stage
    copies: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        counted("copies", self.copies)

    def train(
        self, model: nn.Module, *, resume: Mapping[str, Any] | None = None, keep: Keep | None = None
    ) -> None:
        """Train a model in place; it ends as the mean, in the mode in which it came.

        Args:
            model: The model.
            resume: What `keep` was last given: what it had done is not done again, and the end is the same.
            keep: Called after the first phase and after each copy with all there is to know, as plain data for
                `torch.save`; `torch.load(weights_only=True)` reads it.

        Raises:
            OptimizerError: A phase gave no batch, or no optimizer of the model that it was given; `resume` is of
                more copies than there are.
        """
        mode = model.training
        mean, done = self._resumed(model, resume)
        if resume is None:
            _train(model, self.loss, self.large, self.seed)
            _keep(keep, model, mean, 0)
        for number in range(done, self.copies):
            twin = copy.deepcopy(model)
            _train(twin, self.loss, self.small, self.seed + 1 + number)
            mean.update_parameters(twin)
            _keep(keep, model, mean, number + 1)
        model.load_state_dict(mean.module.state_dict())
        with _seeded(self.seed) as generator:
            renew_batch_norm(model, self.small.batches(generator), forward=self.loss)
        model.zero_grad()
        model.train(mode)

    def _resumed(self, model: nn.Module, saved: Mapping[str, Any] | None) -> tuple[AveragedModel, int]:
        if saved is None:
            return averaged(model), 0
        if not {"copies", "model", "mean"} <= set(saved) or saved["copies"] > self.copies:
            msg = f"`resume` must be what `keep` was given in a run of at most {self.copies} copies"
            raise OptimizerError(msg)
        model.load_state_dict(saved["model"])
        mean = averaged(model)
        mean.load_state_dict(saved["mean"])
        return mean, int(saved["copies"])


def accuracy(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> float:
    """Give the share of examples whose largest output is that of their label.

    Args:
        model: Gives outputs of shape (batch, classes); it is evaluated in the mode that it is in.
        batches: Pairs of inputs and labels.

    Raises:
        OptimizerError: There is no example.
    """
    right, count = 0, 0
    with torch.no_grad():
        for inputs, labels in batches:
            right += int((model(inputs).argmax(1) == labels).sum())
            count += len(labels)
    if count == 0:
        msg = "`batches` gave no example to count: pass a DataLoader or a list of (inputs, labels)"
        raise OptimizerError(msg)
    return right / count


def _train(model: nn.Module, loss: Loss, stage: Stage, seed: int) -> None:
    model.train()
    optimizer = _made(stage, model)
    scheduler = LambdaLR(optimizer, stage.schedule or constant())
    with _seeded(seed) as generator:
        done, enough = 0, False
        while done < stage.steps and not enough:
            begin = done
            for batch in islice(stage.batches(generator), stage.steps - done):
                optimizer.zero_grad()
                loss(model, batch).backward()
                optimizer.step()
                scheduler.step()
                done += 1
            if done == begin:
                msg = "`batches` gave no batch: it is called for every epoch, and must make one each time"
                raise OptimizerError(msg)
            if stage.until is not None:
                enough = stage.until(model.eval())
                model.train()


def _made(stage: Stage, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = cast("object", stage.optimizer(model))
    if not isinstance(optimizer, torch.optim.Optimizer):
        msg = f"`optimizer` must make an optimizer of the model that it is given, not {optimizer!r:.60}"
        raise OptimizerError(msg)
    own = set(map(id, model.parameters()))
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        msg = "`optimizer` made one of another model's parameters: it must be new, of the model that it is given"
        raise OptimizerError(msg)
    return optimizer


@contextmanager
def _seeded(seed: int) -> Generator[torch.Generator]:
    """Seed PyTorch's generators for a while, and give one for the order of the data."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def _keep(keep: Keep | None, model: nn.Module, mean: AveragedModel, copies: int) -> None:
    if keep is not None:  # with a copy, since what is given goes on changing
        keep({"copies": copies, **copy.deepcopy({"model": model.state_dict(), "mean": mean.state_dict()})})
