"""A small network on real data, its gradients, and two optimizers that must agree on them."""

from collections.abc import Callable, Iterator

import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn


def network(dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to(dtype)


def batches(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    inputs, labels = load_iris(return_X_y=True)
    rows = torch.randperm(150, generator=torch.Generator().manual_seed(0)).split(10)
    while True:
        for batch in rows:
            yield torch.tensor(inputs, dtype=dtype)[batch], torch.tensor(labels)[batch]


def follow(
    ours: Callable[[nn.Module], torch.optim.Optimizer],
    theirs: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    dtype: torch.dtype = torch.float32,
    steps: int = 200,
    changing: bool = False,
    agree: Callable[[Tensor, Tensor], bool] = torch.equal,
) -> None:
    """Step both with the gradients of one, and assert at every step that the parameters agree.

    As long as they are equal, these are the gradients of the other one, too.
    """
    one, other = network(dtype), network(dtype)
    mine, reference = ours(one), theirs(other)
    for step, (inputs, labels) in zip(range(steps), batches(dtype), strict=False):
        reference.zero_grad()
        nn.functional.cross_entropy(other(inputs), labels).backward()
        for param, same in zip(one.parameters(), other.parameters(), strict=True):
            param.grad = same.grad.clone()
        if changing:
            for group in (*mine.param_groups, *reference.param_groups):
                group["lr"] *= 1.05 if step % 100 < 50 else 0.95
        mine.step()
        reference.step()
        for param, same in zip(one.parameters(), other.parameters(), strict=True):
            assert agree(param.detach(), same.detach()), f"apart after step {step + 1}"
