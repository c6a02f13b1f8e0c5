"""What the cases of this half share: batches, loops that get a run to where it is stuck, cures."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from unstuck import Training
from unstuck.training import Loss

Change = Callable[[Training], Training]


def loader(*tensors: Tensor, size: int, shuffle: bool = True) -> DataLoader[Any]:
    """Give batches of so many rows, in another order each epoch; the last one is as small as it comes."""
    return DataLoader(TensorDataset(*tensors), batch_size=size, shuffle=shuffle)


def named(*keys: str) -> Callable[[list[tuple[Tensor, ...]]], dict[str, Tensor]]:
    """Make a `collate_fn` that gives batches as dictionaries."""

    def collate(examples: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        return {
            key: torch.stack(column) for key, column in zip(keys, zip(*examples, strict=True), strict=True)
        }

    return collate


def train(training: Training, steps: int, *, clip: float | None = None) -> Training:
    """Take so many steps, the way people write it: with a clipped gradient and a scheduler, if there is one."""
    taken = 0
    while taken < steps:
        for batch in training.data:
            if taken == steps:
                break
            step(training, batch, clip=clip)
            taken += 1
    return training


def step(training: Training, batch: Any, *, clip: float | None = None) -> None:
    """Take one step on one batch."""
    optimizer = training.optimizer
    assert optimizer is not None
    optimizer.zero_grad()
    training.loss(training.model, batch).backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(training.model.parameters(), clip)
    optimizer.step()
    if training.scheduler is not None:
        training.scheduler.step()


def settle(model: nn.Module, loss: Loss, data: Iterable[Any], *, rounds: int = 3) -> None:
    """Bring a small model in float64 to a critical point of its whole data, by L-BFGS."""
    batches = list(data)
    examples = sum(_length(batch) for batch in batches)
    for _ in range(rounds):
        solver = LBFGS(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            max_iter=400,
            history_size=40,
            tolerance_grad=1e-11,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure(solver: Optimizer = solver) -> Tensor:
            solver.zero_grad()
            value = sum(loss(model, batch) * (_length(batch) / examples) for batch in batches)
            assert isinstance(value, Tensor)
            value.backward()
            return value

        solver.step(closure)  # pyright: ignore[reportArgumentType]
    model.zero_grad()


def _length(batch: Any) -> int:
    return len(batch[-1])


def rate(factor: float) -> Change:
    """Make the cure that multiplies the learning rate, and does away with the schedule."""

    def change(training: Training) -> Training:
        assert training.optimizer is not None
        for group in training.optimizer.param_groups:
            group["lr"] *= factor
        return replace(training, scheduler=None)

    return change


def moments_forgotten(training: Training) -> Training:
    """Forget what the optimizer has stored, and keep all else."""
    assert training.optimizer is not None
    training.optimizer.state.clear()
    return training


def jolted(size: float) -> Change:
    """Make the cure that adds normal noise of that size to every parameter."""

    def change(training: Training) -> Training:
        with torch.no_grad():
            for parameter in training.model.parameters():
                parameter.add_(size * torch.randn_like(parameter))
        return training

    return change


def whole(training: Training) -> Training:
    """Give all the data in one batch of tensors."""
    columns = zip(*training.data, strict=True)
    return replace(training, data=[tuple(torch.cat(column) for column in columns)])
