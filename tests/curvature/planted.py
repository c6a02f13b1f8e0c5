"""Symmetric matrices with chosen eigenvalues, for the tests of this folder."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unstuck.curvature.vectors import Operator


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(eigenvalues: Sequence[float], seed: int = 0) -> Tensor:
    size = len(eigenvalues)
    orthogonal, _ = torch.linalg.qr(torch.randn(size, size, generator=generator(seed), dtype=torch.float64))
    planted = (orthogonal * torch.tensor(list(eigenvalues), dtype=torch.float64)) @ orthogonal.T
    return 0.5 * (planted + planted.T)


def operator(symmetric: Tensor, dtype: torch.dtype = torch.float64) -> Operator:
    rounded = symmetric.to(dtype)
    return Operator(lambda vector: rounded @ vector, len(symmetric), torch.zeros(len(symmetric), dtype=dtype))


def planted(eigenvalues: Sequence[float], dtype: torch.dtype = torch.float64, seed: int = 0) -> Operator:
    return operator(matrix(eigenvalues, seed), dtype)


def diagonal(eigenvalues: Sequence[float]) -> Operator:
    entries = torch.tensor(list(eigenvalues), dtype=torch.float64)
    return Operator(lambda vector: entries * vector, len(entries), torch.zeros_like(entries))
