"""What is computed again instead of kept gives the same, and takes less memory."""

import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from fingerprint import unchanged
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from zoo import CLASSES, FEATURES, batches, generator

from unstuck import Training, supervised
from unstuck.errors import TrainingError
from unstuck.objective import Objective, draw
from unstuck.objective.graphs import keep
from unstuck.objective.thrift import allowing

WIDE, DEPTH = 40, 4
LITTLE, ENOUGH = 1.0, math.inf


class Block(nn.Module):
    """Holds much more inside than goes in and comes out."""

    def __init__(self, *between: nn.Module) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(FEATURES, WIDE), nn.Linear(WIDE, FEATURES)
        self.between = nn.Sequential(nn.Tanh(), *between)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.between(self.inner(x).sin()).cos())


class Stateful(Block):
    """Counts, draws, and moves a buffer in a way that leaves no trace; all of it enters the output."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(WIDE))
        self.calls, self.drawn = [], generator()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(self.calls))
        self.scale.data.mul_(1.1)
        noise = 1.0 + 0.1 * torch.rand((), generator=self.drawn)
        return x + self.outer(self.between(self.scale * noise * self.inner(x).sin())) / len(self.calls)


class Cached(Block):
    """Appends to what it is given, as decoders do to a cache, and gives more than a tensor."""

    def forward(self, x: Tensor, *, cache: SimpleNamespace) -> tuple[Tensor, dict[str, Tensor]]:
        cache.seen.append(self.inner(x).sin())
        mixed = torch.stack(cache.seen).mean(0)
        return x + self.outer(self.between(self.inner(x).sin() + 0.0 * mixed.detach())), {"twice": 2.0 * x}


class Leaking(Block):
    """Leaves a part of the loss in an attribute."""

    def forward(self, x: Tensor) -> Tensor:
        inside = self.inner(x).sin()
        self.extra = inside.square().mean()
        return x + self.outer(self.between(inside).cos())


class Capturing(Block):
    """Reads what it was not given."""

    def __init__(self) -> None:
        super().__init__()
        self.context: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.context["first"]


class Overwriting(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.9))


class Deep(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(FEATURES, FEATURES), nn.ModuleList(blocks)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        cache = SimpleNamespace(seen=[])
        for block in self.blocks:
            if isinstance(block, Capturing):
                block.context["first"] = self.first.weight.sum()
            if isinstance(block, Cached):
                x, more = block(x, cache=cache)
                x = x + more["twice"]
            else:
                x = block(x)
        return self.head(x) + sum(block.extra for block in self.blocks if isinstance(block, Leaking))


def shared() -> nn.Module:
    block = Block()
    return Deep(block, block, Block(), block)


BLOCKS = {
    "batch norm and dropout": lambda: Deep(
        *(Block(nn.BatchNorm1d(WIDE), nn.Dropout(0.3)) for _ in range(DEPTH))
    ),
    "spectral norm": lambda: Deep(
        *(Block(parametrizations.spectral_norm(nn.Linear(WIDE, WIDE))) for _ in range(DEPTH))
    ),
    "state": lambda: Deep(*(Stateful() for _ in range(DEPTH))),
    "a cache": lambda: Deep(*(Cached() for _ in range(DEPTH))),
    "one block several times": shared,
    "frozen": lambda: Deep(Block().requires_grad_(requires_grad=False), *(Block() for _ in range(DEPTH))),
}
NONE = {
    "leaking": lambda: Deep(*(Leaking() for _ in range(DEPTH))),
    "capturing": lambda: Deep(*(Capturing() for _ in range(DEPTH))),
    "overwriting": lambda: Deep(*(Overwriting() for _ in range(DEPTH))),
}


def of(model: nn.Module, loss=None) -> Training:
    return Training(model, loss or supervised(nn.functional.cross_entropy), batches(16, 8))


def within(memory: float, training: Training, dtype=torch.float64) -> Objective:
    drawn = draw(training.data, seed=0, enough=lambda *_: False)
    with allowing(memory):
        return Objective(training, drawn.batches, dtype=dtype)


@contextmanager
def both(make):
    """The same training with all graphs kept, and with little memory; both give the same gradient."""
    torch.manual_seed(0)
    training = of(make())
    with unchanged(training):
        kept, again = within(ENOUGH, training), within(LITTLE, training)
        assert torch.equal(again.gradient(again.theta), kept.gradient(kept.theta))
        yield kept, again


def held(sampled: Objective) -> float:
    with sampled.replay.session():
        return keep(sampled.replay, sampled.batches[0], sampled.theta).nbytes


@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS.keys())
def test_blocks_computed_again_give_the_same_gradients_and_products(make):
    with both(make) as (kept, again):
        assert again.replay.thrift.gradients
        vector = torch.randn(kept.size, generator=generator(), dtype=torch.float64)
        for memory, engine in ((math.inf, "retained + checkpointed"), (0.0, "fresh + checkpointed")):
            with kept.products(kept.theta) as usual, again.products(again.theta, memory=memory) as products:
                assert products.engine == engine
                expected = usual(vector)
                for _ in range(1 + bool(memory)):
                    torch.testing.assert_close(products(vector), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", NONE.values(), ids=NONE.keys())
def test_blocks_that_cannot_be_computed_again_are_not(make):
    with both(make) as (_, again), again.products(again.theta) as products:
        assert products.engine == "retained"


def test_automatic_casting_is_as_it_was():
    torch.manual_seed(0)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.cross_entropy(model(batch[0]), batch[1])

    training = of(BLOCKS["batch norm and dropout"](), loss)
    kept, again = within(ENOUGH, training, dtype=None), within(LITTLE, training, dtype=None)
    assert again.replay.thrift.gradients
    torch.testing.assert_close(again.gradient(again.theta), kept.gradient(kept.theta), rtol=2e-2, atol=1e-3)
    with kept.products(kept.theta) as usual, again.products(again.theta) as products:
        assert products.noise == pytest.approx(usual.noise, rel=1.0)


def test_a_graph_that_fits_is_kept_whole_and_one_that_does_not_takes_less():
    torch.manual_seed(0)
    training = of(Deep(*(Block() for _ in range(2 * DEPTH))))
    whole = within(ENOUGH, training)
    room = held(whole)
    fitting, between = within(4.0 * room, training), within(0.8 * room, training)
    assert not fitting.replay.thrift.products
    assert between.replay.thrift.products
    assert not between.replay.thrift.gradients
    assert held(between) < 0.4 * room


def test_a_loss_that_fails_later_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    calls = 0

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        outputs = model(batch[0])
        if calls:
            msg = "enough"
            raise ValueError(msg)
        return nn.functional.cross_entropy(outputs, batch[1])

    training = of(BLOCKS["batch norm and dropout"](), loss)
    again = within(LITTLE, training)
    calls = 1
    with unchanged(training), pytest.raises(TrainingError, match="enough"):
        again.gradient(again.theta)
