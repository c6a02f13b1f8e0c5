"""Real data that ships with packages: scikit-learn's sets, an image's patches, the text of Python's own help.

Everything is cached as tensors and handed out as clones, so that no case can spoil another's data.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;()[]'\"=_*-+/<>@#`"  # everything else becomes a space
SYMBOLS = len(ALPHABET)
PATCH = 8

Pair = tuple[Tensor, Tensor]


def digits(count: int = 1797, *, seed: int = 0, raw: bool = False, flat: bool = False) -> Pair:
    """Give so many handwritten digits, drawn without replacement, and their labels from 0 to 9.

    Images are 1 x 8 x 8, of mean 0 and variance 1 over all pixels, or from 0 to 16 if `raw`; `flat` makes rows of 64.
    """
    images, labels = _digits()
    chosen = _chosen(len(labels), count, seed)
    images = images[chosen] if raw else (images[chosen] - images.mean()) / images.std()
    return (images.flatten(1) if flat else images), labels[chosen]


def table(name: str, *, raw: bool = False) -> Pair:
    """Give the rows of "iris", "wine", "breast_cancer" or "diabetes" in random order.

    The first three have classes, the last a target of mean 0 and variance 1.
    Features have mean 0 and variance 1 too, or their own units if `raw`.
    """
    features, targets = _table(name, raw)
    order = _chosen(len(targets), len(targets), 0)
    features = features[order].clone()
    return (features if raw else (features - features.mean(0)) / features.std(0)), targets[order]


def patches(count: int = 1024, *, seed: int = 0) -> Tensor:
    """Give grey 8 x 8 patches of scikit-learn's two photographs as rows of 64, of mean 0 and variance 1 over all."""
    grey = _patches()
    chosen = grey[_chosen(len(grey), count, seed)]
    return (chosen - grey.mean()) / grey.std()


def text(count: int = 256, length: int = 16, *, seed: int = 0) -> Pair:
    """Give windows of Python's help topics: symbols, and the symbols that follow each, both `count` x `length`."""
    codes = _text()
    starts = torch.randint(len(codes) - length - 1, (count,), generator=_generator(seed))
    windows = codes[starts[:, None] + torch.arange(length + 1)]
    return windows[:, :-1].clone(), windows[:, 1:].clone()


def loader(*tensors: Tensor, size: int, seed: int, shuffle: bool = True) -> DataLoader[Any]:
    """Give a DataLoader as most people make it, with a generator of its own."""
    return DataLoader(TensorDataset(*tensors), batch_size=size, shuffle=shuffle, generator=_generator(seed))


def batches(*tensors: Tensor, size: int) -> list[Any]:
    """Give a list of batches, in the order of the data."""
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def mappings(batches_: Iterable[Any], *names: str) -> list[dict[str, Tensor]]:
    """Name the parts of each batch."""
    return [dict(zip(names, batch, strict=True)) for batch in batches_]


def split(*tensors: Tensor, held: float = 0.3) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Give the first part to train on and the last to hold out; all of this module is in random order already."""
    cut = round((1 - held) * len(tensors[0]))
    return tuple(one[:cut].clone() for one in tensors), tuple(one[cut:].clone() for one in tensors)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _chosen(total: int, count: int, seed: int) -> Tensor:
    return torch.randperm(total, generator=_generator(seed))[:count]


@cache
def _digits() -> Pair:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)


@cache
def _table(name: str, raw: bool) -> Pair:  # noqa: FBT001
    from sklearn import datasets

    options = {"scaled": not raw} if name == "diabetes" else {}
    features, targets = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
    inputs = torch.tensor(np.asarray(features), dtype=torch.float32)
    if name != "diabetes":
        return inputs, torch.tensor(targets, dtype=torch.int64)
    progress = torch.tensor(targets, dtype=torch.float32)
    return inputs, (progress - progress.mean()) / progress.std()


@cache
def _patches() -> Tensor:
    from sklearn.datasets import load_sample_images

    found = []
    for image in load_sample_images().images:
        grey = torch.tensor(image, dtype=torch.float32).mean(dim=2)
        found.append(grey.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).reshape(-1, PATCH * PATCH))
    return torch.cat(found)


@cache
def _text() -> Tensor:
    from pydoc_data.topics import topics

    codes = {symbol: code for code, symbol in enumerate(ALPHABET)}
    whole = "\n".join(topics[name] for name in sorted(topics)).lower()
    return torch.tensor([codes.get(symbol, 1) for symbol in whole[:120_000]])
