"""What a demo's loss is at its point, without the package: in float64, on all data at once, by plain autograd."""

import copy
from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

CHUNK = 256


@dataclass(frozen=True)
class Whole:
    """The loss over all data, weight decay included, of a copy of the model."""

    parameters: list
    loss: object

    def __call__(self, vector: Tensor | None = None) -> float:
        if vector is None:
            return self.loss().item()
        before = self.vector()
        with torch.no_grad():
            vector_to_parameters(vector, self.parameters)
            value = self.loss().item()
            vector_to_parameters(before, self.parameters)
        return value

    def vector(self) -> Tensor:
        return parameters_to_vector(self.parameters).detach().clone()

    def gradient(self, *, graph: bool = False) -> Tensor:
        pieces = torch.autograd.grad(self.loss(), self.parameters, create_graph=graph)
        return torch.cat([piece.flatten() for piece in pieces])

    def hessian(self) -> Tensor:
        gradient = self.gradient(graph=True)
        rows = []
        for chunk in torch.eye(len(gradient), dtype=gradient.dtype).split(CHUNK):
            pieces = torch.autograd.grad(
                gradient, self.parameters, grad_outputs=chunk, is_grads_batched=True, retain_graph=True
            )
            rows.append(torch.cat([piece.reshape(len(chunk), -1) for piece in pieces], dim=1))
        return torch.cat(rows)

    def eigenpair(self, which: str) -> tuple[float, Tensor]:
        """ARPACK's lowest ("SA") or highest ("LA") eigenvalue and its vector."""
        gradient = self.gradient(graph=True)

        def product(vector):
            weighted = gradient @ torch.from_numpy(np.ascontiguousarray(vector.ravel()))
            pieces = torch.autograd.grad(weighted, self.parameters, retain_graph=True)
            return torch.cat([piece.flatten() for piece in pieces]).numpy()

        size = len(gradient)
        operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = scipy.sparse.linalg.eigsh(operator, k=1, which=which, v0=start, tol=1e-4)
        return float(values[0]), torch.from_numpy(vectors[:, 0])


def whole(training) -> Whole:
    model = copy.deepcopy(training.model).double()
    parameters = list(model.parameters())
    batches = [[_double(tensor) for tensor in batch] for batch in training.data]
    everything = [torch.cat(tensors) for tensors in zip(*batches, strict=True)]
    decay = training.optimizer.param_groups[0]["weight_decay"]

    def loss():
        penalty = sum(parameter.square().sum() for parameter in parameters)
        return training.loss(model, everything) + decay / 2 * penalty

    return Whole(parameters, loss)


def _double(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor
