"""Small networks of kinds that people train: residual, recurrent, convolutional, transformers, autoencoders."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def chain(*widths: int, between: Callable[[], nn.Module]) -> nn.Sequential:
    """Build linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), between()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """A residual block with dropout: x + W' gelu(W norm(x))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Examples x width in and out."""
        return hidden + self.branch(hidden)


def residual(
    inputs: int, outputs: int, *, width: int = 32, depth: int = 3, dropout: float = 0.1
) -> nn.Module:
    """Build a residual perceptron for tables."""
    blocks = [Residual(width, dropout) for _ in range(depth)]
    return nn.Sequential(nn.Linear(inputs, width), *blocks, nn.LayerNorm(width), nn.Linear(width, outputs))


class Reader(nn.Module):
    """Reads a sequence with a recurrent layer, and answers from its last state."""

    def __init__(self, cell: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(cell.hidden_size, outputs)

    def forward(self, sequence: Tensor) -> Tensor:
        """Examples x steps x features in, examples x outputs out."""
        states, _ = self.cell(sequence)
        return self.head(states[:, -1])


class Bag(nn.Module):
    """A bag of words: the mean of their embeddings, and a linear layer."""

    def __init__(self, words: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(words, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Examples x words in, examples x outputs out."""
        return self.head(self.embedding(words))


class Words(nn.Module):
    """The same of an embedding whose mean is taken apart, as people write it who need its second derivative."""

    def __init__(self, words: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Examples x words in, examples x outputs out."""
        return self.head(self.embedding(words).mean(dim=1))


class Autoencoder(nn.Module):
    """An encoder and a decoder; `forward` gives the reconstruction."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the reconstruction, as large as the input."""
        return self.decoder(self.encoder(inputs))


def separable(channels: int, width: int, outputs: int) -> nn.Sequential:
    """Build a net of depthwise and pointwise convolutions with BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, outputs),
    )


class Vision(nn.Module):
    """A small vision transformer: patches to tokens, encoder layers, the mean token to a linear head."""

    def __init__(self, tokens: int, features: int, outputs: int, *, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, sequence: Tensor) -> Tensor:
        """Examples x tokens x features in, examples x outputs out."""
        return self.head(self.encoder(self.embedding(sequence) + self.positions).mean(dim=1))
