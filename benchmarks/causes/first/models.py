"""Small networks of the usual kinds, written as people write them."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.causes.data import SYMBOLS


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Give linear layers of these sizes with an activation between any two."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def convnet(
    width: int = 8, *, norm: bool = False, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Give two convolutions, pooling and a linear layer, for digits."""

    def block(before: int, after: int) -> list[nn.Module]:
        layers = [nn.Conv2d(before, after, 3, padding=1, bias=not norm)]
        return [*layers, *([nn.BatchNorm2d(after)] if norm else []), activation()]

    return nn.Sequential(
        *block(1, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 10),
    )


class Rows(nn.Module):
    """A recurrent net that reads an image row by row and names its class after the last."""

    def __init__(self, kind: type[nn.RNNBase], width: int = 32, *, outputs: int = 10) -> None:
        super().__init__()
        self.recurrent = kind(8, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits."""
        states, _ = self.recurrent(images.view(len(images), 8, 8))
        return self.head(states[:, -1])


class Characters(nn.Module):
    """A recurrent language model over characters."""

    def __init__(self, kind: type[nn.RNNBase], width: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width)
        self.recurrent = kind(width, width, batch_first=True)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Give logits of the symbol after each."""
        states, _ = self.recurrent(self.embedding(symbols))
        return self.head(states)


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_layer = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix over positions, then within each."""
        parts = self.mixed(self.first(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.forward_layer(self.second(x))


class Transformer(nn.Module):
    """A decoder-only language model over characters."""

    def __init__(self, width: int = 24, depth: int = 2, length: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, 2, dropout) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Give logits of the symbol after each."""
        return self.head(self.norm(self.blocks(self.embedding(symbols) + self.position[: symbols.shape[1]])))


def next_symbol(model: nn.Module, batch: Any) -> Tensor:
    """Cross-entropy of the next symbol; of batches (symbols, next symbols) or of mappings of these names."""
    symbols, following = batch.values() if hasattr(batch, "values") else batch
    return functional.cross_entropy(model(symbols).flatten(0, 1), following.flatten())


def gpt(width: int = 24, depth: int = 2) -> nn.Module:
    """Give a tiny GPT-2 from its configuration, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    zero = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(
        vocab_size=SYMBOLS,
        n_positions=16,
        n_embd=width,
        n_layer=depth,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        **zero,
    )
    return GPT2LMHeadModel(config)


def encodings(symbols: Tensor, size: int) -> list[Any]:
    """Give batches as a tokenizer's collator does; the labels are the symbols, which the model shifts itself."""
    from transformers import BatchEncoding

    return [
        BatchEncoding({"input_ids": part, "attention_mask": torch.ones_like(part), "labels": part.clone()})
        for part in symbols.split(size)
    ]


def hugging_face(model: nn.Module, batch: Any) -> Tensor:
    """Give the loss that the model computes itself."""
    return model(**batch).loss


def scaled(layers: Iterable[nn.Module], factor: float) -> None:
    """Multiply the weights of linear and convolutional layers."""
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(factor)


def anew(model: nn.Module, seed: int = 17) -> nn.Module:
    """Initialise every layer again as PyTorch does."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            if callable(again := getattr(module, "reset_parameters", None)):
                again()
    return model
