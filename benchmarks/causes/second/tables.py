"""Real data that ships with Python and scikit-learn: tables, digits as rows, patches of photographs, source text."""

import argparse
import inspect
import json.decoder
import textwrap
import zlib
from functools import cache

import torch
from sklearn import datasets
from torch import Tensor

VOCABULARY = 128  # of characters: ASCII
BUCKETS = 1024  # of words, hashed


@cache
def raw(name: str) -> tuple[Tensor, Tensor]:
    """Give a table as it is in its file, in float64: features, and a number or a class for each row."""
    loaders = {
        "diabetes": lambda: datasets.load_diabetes(return_X_y=True, scaled=False),
        "linnerud": lambda: datasets.load_linnerud(return_X_y=True),
        "wine": lambda: datasets.load_wine(return_X_y=True),
        "iris": lambda: datasets.load_iris(return_X_y=True),
        "cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
        "digits": lambda: datasets.load_digits(return_X_y=True),
    }
    inputs, targets = loaders[name]()
    features = torch.as_tensor(inputs, dtype=torch.float64)
    if name in {"diabetes", "linnerud"}:
        return features, torch.as_tensor(targets, dtype=torch.float64)
    return features, torch.as_tensor(targets, dtype=torch.int64)


def standard(values: Tensor) -> Tensor:
    """Bring each column to mean 0 and standard deviation 1; constant ones to 0."""
    spread = values.std(dim=0)
    return (values - values.mean(dim=0)) / torch.where(spread > 0, spread, torch.ones_like(spread))


@cache
def scaled(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Give a table with standardised features; measured targets are standardised too, classes are not."""
    features, targets = raw(name)
    if targets.is_floating_point():
        targets = standard(targets).to(dtype)
    return standard(features).to(dtype), targets


@cache
def rows() -> tuple[Tensor, Tensor]:
    """Digits as sequences of eight rows of eight pixels in 0..1, and what they show."""
    pixels, labels = raw("digits")
    return (pixels / 16).float().unflatten(1, (8, 8)), labels


@cache
def patches(side: int = 8) -> tuple[Tensor, Tensor]:
    """Give tiles of two photographs, colours in 0..1, channels first, and which photograph each is from."""
    tiles, origins = [], []
    for number, name in enumerate(("china.jpg", "flower.jpg")):
        photograph = torch.as_tensor(datasets.load_sample_image(name).copy()).float() / 255
        cut = photograph.unfold(0, side, 2 * side).unfold(1, side, 2 * side).flatten(0, 1)
        tiles.append(cut)
        origins.append(torch.full((len(cut),), number))
    return torch.cat(tiles), torch.cat(origins)


@cache
def characters(length: int, count: int) -> Tensor:
    """Give the first `count` pieces of Python's own `inspect` module, each of `length` characters, as numbers."""
    text = inspect.getsource(inspect).encode("ascii", "replace")[: length * count]
    return torch.tensor(list(text)).reshape(count, length)


@cache
def lines(words: int = 6) -> tuple[Tensor, Tensor]:
    """Give lines of four modules as `words` hashed words, and which module each is from, in the files' order."""
    found, origins = [], []
    for number, module in enumerate((inspect, json.decoder, textwrap, argparse)):
        for line in inspect.getsource(module).splitlines():
            parts = line.split()[:words]
            if len(parts) < words:
                continue
            found.append([zlib.crc32(part.encode()) % BUCKETS for part in parts])
            origins.append(number)
    return torch.tensor(found), torch.tensor(origins)
