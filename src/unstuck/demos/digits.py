"""The handwritten digits that the demos are trained on, and batches of them.

E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, licensed under CC BY 4.0; see digits.LICENSE.txt beside this file.
"""

from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

PIXELS = 64
CLASSES = 10
BATCH = 150  # 1797 examples make twelve batches of nearly equal size

Images = Float[Tensor, "examples pixels"]
Labels = Int[Tensor, " examples"]


def raw_digits() -> tuple[Images, Labels]:
    """Load the 1797 images, one a row, with pixels from 0 to 16, and their labels from 0 to 9."""
    images, labels = _archive()
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def digits() -> tuple[Images, Labels]:
    """Load the images shifted and scaled so that all pixels together have mean 0 and variance 1."""
    images, labels = raw_digits()
    doubled = images.double()
    return ((doubled - doubled.mean()) / doubled.std()).float(), labels


def projections() -> tuple[Images, Labels]:
    """Load the ink in each column and each row of the images: 16 features of mean 0 and variance 1.

    The classes overlap in them, so that cross-entropy has a minimum well above zero.
    """
    images, labels = raw_digits()
    square = images.double().reshape(-1, 8, 8)
    features = torch.cat([square.sum(dim=1), square.sum(dim=2)], dim=1)
    return ((features - features.mean(dim=0)) / features.std(dim=0)).float(), labels


def batches(inputs: Tensor, targets: Tensor, *, size: int = BATCH, seed: int = 0) -> DataLoader[Any]:
    """Give shuffled batches from a generator of their own, drawn anew each time they are iterated."""
    dataset = TensorDataset(inputs, targets)
    shuffled = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    # Handing out whole lists of indices reads a batch in one go; the loader's own batching reads it row by row.
    sampler = BatchSampler(shuffled, size, drop_last=False)
    return DataLoader(
        dataset, sampler=sampler, batch_size=None, generator=torch.Generator().manual_seed(seed)
    )


@cache
def _archive() -> tuple[np.ndarray, np.ndarray]:
    resource = files("unstuck.demos") / "digits.npz"
    with as_file(resource) as path, np.load(path) as archive:
        return archive["images"], archive["labels"]
