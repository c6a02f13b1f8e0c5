"""The truth, in float64 and by other means: a dense Hessian where it can be formed, else SciPy's `eigsh`.

Nothing here comes from unstuck. It takes minutes, so the answers are kept in the temporary directory, under a
digest of the parameters.
"""

import copy
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.workloads import Workload

Array = npt.NDArray[np.float64]

_DENSE = 10_000  # 800 MB, and minutes for the eigenvalues
_CHUNK = 64  # rows of the Hessian at a time
_TOP, _TOLERANCE = 6, 1e-10
_VECTORS = 120


@dataclass(frozen=True)
class Truth:
    """Eigenvalues in ascending order: all of them, or the first and the six largest."""

    values: Array
    complete: bool

    @property
    def lowest(self) -> float:
        """lambda_min."""
        return float(self.values[0])

    def highest(self, count: int) -> Array:
        """The largest ones, descending."""
        return self.values[::-1][:count]


def truth(workload: Workload) -> Truth:
    """Compute the eigenvalues of the Hessian over all batches, or read them if that was done before."""
    digest = hashlib.sha256(_flat(workload.model.parameters()).detach().numpy().tobytes()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / "unstuck-benchmarks" / f"{workload.key}-{digest}.npy"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        np.save(path, _compute(workload))
    values = np.load(path)
    return Truth(values, complete=len(values) == workload.size)


def _compute(workload: Workload) -> Array:
    with sdpa_kernel(SDPBackend.MATH):
        outputs, leaves = _graphs(workload)
        if workload.size <= _DENSE:
            return np.linalg.eigvalsh(_dense(outputs, leaves).numpy())
        operator = LinearOperator((workload.size,) * 2, matvec=_product(outputs, leaves), dtype=np.float64)
        start = np.random.default_rng(1).standard_normal(workload.size)
        ends = {"SA": (1, _VECTORS), "LA": (_TOP, _VECTORS // 3)}
        found = [
            eigsh(operator, k, which=end, v0=start, ncv=vectors, tol=_TOLERANCE, return_eigenvectors=False)
            for end, (k, vectors) in ends.items()
        ]
        return np.sort(np.concatenate(found))


def _graphs(workload: Workload) -> tuple[list[Tensor], list[Tensor]]:
    """Give the gradients of all batches, weighted, with their graphs; and what to differentiate by."""
    model = copy.deepcopy(workload.model).double()
    leaves = list(model.parameters())
    outputs: list[Tensor] = []
    for inputs, targets in workload.batches:
        loss = functional.cross_entropy(model(inputs.double()), targets) * (len(targets) / workload.examples)
        outputs += torch.autograd.grad(loss, leaves, create_graph=True)
    return outputs, leaves


def _product(outputs: list[Tensor], leaves: list[Tensor]) -> Callable[[Array], Array]:
    sizes = [leaf.numel() for leaf in leaves]
    times = len(outputs) // len(leaves)

    def multiply(vector: Array) -> Array:
        parts = torch.from_numpy(vector.ravel()).split(sizes)
        pieces = [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        return _flat(torch.autograd.grad(outputs, leaves, pieces * times, retain_graph=True)).numpy()

    return multiply


def _dense(outputs: list[Tensor], leaves: list[Tensor]) -> Tensor:
    size, times = sum(leaf.numel() for leaf in leaves), len(outputs) // len(leaves)
    matrix = torch.empty(size, size, dtype=torch.float64)
    for begin in range(0, size, _CHUNK):
        count = min(_CHUNK, size - begin)
        rows = torch.zeros(count, size, dtype=torch.float64)
        rows[torch.arange(count), begin + torch.arange(count)] = 1.0
        parts = rows.split([leaf.numel() for leaf in leaves], dim=1)
        pieces = [part.unflatten(1, leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        found = torch.autograd.grad(outputs, leaves, pieces * times, retain_graph=True, is_grads_batched=True)
        matrix[begin : begin + count] = torch.cat([part.flatten(1) for part in found], dim=1)
    return 0.5 * (matrix + matrix.T)


def _flat(tensors: object) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])  # type: ignore[attr-defined]
