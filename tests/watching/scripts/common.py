"""What all scripts share: data, and the last word on the state that a run ends in."""

import random
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits


def digits():
    features, labels = load_digits(return_X_y=True)
    return torch.tensor(features / 16.0, dtype=torch.float32), torch.tensor(labels)


def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


def save(model, *optimizers):
    """Everything that must be the same to the bit."""
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1].tolist(),
            "python": random.getstate()[1],
        },
        sys.argv[1],
    )
