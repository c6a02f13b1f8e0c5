"""The peers, each in its best working configuration on the workloads.

What was needed, so that every peer can do its best:

- All three: `scaled_dot_product_attention` is held to its plain kernel, since the fused one has no second
  derivative.
- PyHessian 0.1: `density` calls `torch.eig`, which PyTorch has removed; a stand-in over `torch.linalg.eigh` is
  lent to it. It leaves the model in eval mode and its graphs in `.grad`; the latter are cleared after each
  call. Given all examples as *one* batch it keeps the graph of the gradient, and that is faster than its
  loader, so both are entered.
- hessian-eigenthings 1.0.0a5 averages batches without weights, which is wrong with a smaller last one; the loss
  it is given carries each batch's share of the examples.
- curvlinops 3.0.1: its own check for determinism, several products in the constructor, is switched off.
"""

import contextlib
import copy
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.workloads import Workload

Product = Callable[[Tensor], Tensor]


@contextlib.contextmanager
def setting() -> Generator[None]:
    """Give what peers need around them: see the module's docstring."""
    lent = not _has_eig()
    if lent:
        torch.eig = _eig  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")
            yield
    finally:
        if lent:
            del torch.eig  # type: ignore[attr-defined]


def pyhessian(workload: Workload) -> Any:
    """Build PyHessian's object over the batches as they come."""
    from pyhessian import hessian

    return hessian(workload.model, functional.cross_entropy, dataloader=workload.batches, cuda=False)


def pyhessian_whole(workload: Workload) -> Any:
    """Build PyHessian's object over all examples in one batch, whose graph it keeps."""
    from pyhessian import hessian

    whole = tuple(torch.cat(parts) for parts in zip(*workload.batches, strict=True))
    built = hessian(workload.model, functional.cross_entropy, data=whole, cuda=False)
    workload.model.zero_grad(set_to_none=True)
    return built


def eigenthings(workload: Workload, *, method: str = "autograd") -> Any:
    """Build the operator of hessian-eigenthings."""
    from hessian_eigenthings import HessianOperator

    share = len(workload.batches) / workload.examples

    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return functional.cross_entropy(model(inputs), targets) * (len(targets) * share)

    # Differences move the parameters in place, which the graphs that others keep do not survive.
    model = copy.deepcopy(workload.model) if method == "finite_difference" else workload.model
    return HessianOperator(model, workload.batches, loss, method=method)


def curvlinops(workload: Workload) -> Any:
    """Build the operator of curvlinops."""
    from curvlinops import HessianLinearOperator

    return HessianLinearOperator(
        workload.model,
        nn.CrossEntropyLoss(),
        list(workload.model.parameters()),
        list(workload.batches),
        check_deterministic=False,
        num_data=workload.examples,
    )


@dataclass
class Counted:
    """Counts the products of a peer's object, by wrapping one of its methods."""

    products: int = 0

    def watch(self, target: Any, name: str) -> Any:
        """Wrap the method `name` of `target` in place."""
        method = getattr(target, name)

        def counting(*arguments: Any) -> Any:
            self.products += 1
            return method(*arguments)

        setattr(target, name, counting)
        return target


def products(workload: Workload) -> dict[str, Product]:
    """Give each peer's product with a flat vector; what it builds once is built here."""
    shapes = [parameter.shape for parameter in workload.model.parameters()]
    sizes = [shape.numel() for shape in shapes]

    def pieces(vector: Tensor) -> list[Tensor]:
        return [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]

    def flat(parts: list[Tensor]) -> Tensor:
        return torch.cat([part.reshape(-1) for part in parts])

    loader, whole = pyhessian(workload), pyhessian_whole(workload)

    def by_loader(vector: Tensor) -> Tensor:
        return flat(loader.dataloader_hv_product(pieces(vector))[1])

    def by_whole(vector: Tensor) -> Tensor:
        from pyhessian.utils import hessian_vector_product

        return flat(hessian_vector_product(whole.gradsH, whole.params, pieces(vector)))

    operator, differences = eigenthings(workload), eigenthings(workload, method="finite_difference")
    linear = curvlinops(workload)
    return {
        "PyHessian": by_loader,
        "PyHessian, one batch": by_whole,
        "hessian-eigenthings": operator.matvec,
        "hessian-eigenthings, differences": differences.matvec,
        "curvlinops": linear.__matmul__,
    }


def _has_eig() -> bool:
    try:
        torch.eig(torch.eye(1))  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return False
    return True


def _eig(matrix: Tensor, *, eigenvectors: bool = False) -> tuple[Tensor, Tensor]:
    """Do for the symmetric matrices of Lanczos what the function that PyTorch removed did."""
    del eigenvectors
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors
