"""Three trained networks on real data, which every benchmark looks at."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck import Training, supervised
from unstuck.objective import Draw, Objective, draw

Pair = tuple[Tensor, Tensor]

BATCH = 256  # 1797 examples make seven batches and a smaller last one


@dataclass(frozen=True)
class Workload:
    """A network at a point of its training, in eval mode, and the data it is looked at on.

    Attributes:
        key: One letter, as in the tables.
        title: What it is.
        model: In eval mode: not every peer can leave BatchNorm's running statistics alone.
        batches: All the data there is.
    """

    key: str
    title: str
    model: nn.Module
    batches: tuple[Pair, ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def examples(self) -> int:
        """Number of examples in all batches."""
        return sum(len(targets) for _, targets in self.batches)

    @property
    def training(self) -> Training:
        """What unstuck is handed."""
        return Training(self.model, supervised(functional.cross_entropy), list(self.batches))

    def objective(self, dtype: torch.dtype | None = None) -> Objective:
        """Give the loss over all batches, as unstuck sees it."""
        return Objective(self.training, self.drawn().batches, dtype=dtype)

    def drawn(self) -> Draw:
        """Draw all batches."""
        return draw(self.training.data, seed=0, enough=lambda batches, examples: False)  # noqa: ARG005

    def gradient(self) -> None:
        """Leave the gradient over all batches in `.grad`, by the loop that a user would write."""
        self.model.zero_grad(set_to_none=True)
        for inputs, targets in self.batches:
            loss = functional.cross_entropy(self.model(inputs), targets)
            (loss * (len(targets) / self.examples)).backward()


class Attention(nn.Module):
    """Self-attention by `scaled_dot_product_attention`, whose fused kernels have no second derivative."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend: examples x tokens x width in and out."""
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.inputs(tokens).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.outputs(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.dense = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Examples x tokens x width in and out."""
        tokens = tokens + self.attention(tokens)
        return tokens + self.dense(tokens)


class Transformer(nn.Module):
    """Reads a digit as eight tokens, its rows."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, width)
        self.positions = nn.Parameter(0.02 * torch.randn(8, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Examples x 64 pixels in, examples x 10 logits out."""
        tokens = self.embedding(images.unflatten(-1, (8, 8))) + self.positions
        return self.head(self.blocks(tokens).mean(dim=1))


def perceptron(*widths: int) -> nn.Sequential:
    """Build a multi-layer perceptron with tanh between its layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Sequential:
    """Build a conv net with BatchNorm and max-pooling."""

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *stage(1, 32),
        nn.MaxPool2d(2),
        *stage(32, 64),
        nn.MaxPool2d(2),
        *stage(64, 64),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


@cache
def workloads() -> tuple[Workload, ...]:
    """Train the three networks: seconds, once a process."""
    return (
        _trained("a", "tanh MLP 64-64-64-10", lambda: perceptron(64, 64, 64, 10), epochs=40),
        _trained("b", "conv net with BatchNorm, ReLU and max-pooling", convolutional, epochs=5),
        _trained("c", "transformer, depth 4, width 64", Transformer, epochs=10),
    )


@cache
def batches() -> tuple[Pair, ...]:
    """Load the digits of scikit-learn, shuffled once, scaled to mean 0 and variance 1 over all pixels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(images, dtype=torch.float32)[order]
    pixels = (pixels - pixels.mean()) / pixels.std()
    targets = torch.tensor(labels, dtype=torch.int64)[order]
    return tuple(zip(pixels.split(BATCH), targets.split(BATCH), strict=True))


def _trained(key: str, title: str, build: Callable[[], nn.Module], *, epochs: int) -> Workload:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for inputs, targets in batches():
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    optimizer.zero_grad()
    return Workload(key, title, model.eval(), batches())
