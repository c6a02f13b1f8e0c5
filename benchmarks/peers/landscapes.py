"""loss-landscapes and landscaper on the workloads: how each is made to look at given places.

What was needed, so that they can take part:

- loss-landscapes 3.0.6: it walks from one corner of a plane to two others, given as models (`planar_interpolation`),
  and looks at every place after its step, so the corner is put one step before the first. In every second row
  it looks before its step instead, and all its heights belong one place further back. It moves the model that it is
  given and leaves it there, without `requires_grad`, so `deepcopy_model` is switched on.
- landscaper 1.3.1: rescales each tensor of a direction to the root of its size; the directions given to it are such.
  Its end of an axis is `(side - 1) / side` of the distance that it is asked for. It prints, which is caught.
"""

import contextlib
import copy
import dataclasses
import io
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.workloads import Workload
from unstuck.landscape.planes import Frame

Place = tuple[float, float]
Draw = Callable[[], np.ndarray]


def positions(frame: Frame, side: int, axis: int = 0) -> list[float]:
    """Evenly spaced places along an axis."""
    return np.linspace(frame.axes[axis].low, frame.axes[axis].high, side).tolist()


def cast(workload: Workload, dtype: torch.dtype) -> Workload:
    """Give the workload in another type, on a model of its own."""
    model = copy.deepcopy(workload.model).to(dtype)
    batches = tuple((inputs.to(dtype), targets) for inputs, targets in workload.batches)
    return dataclasses.replace(workload, model=model, batches=batches)


def plain_attention() -> Any:
    """Hold attention to its plain kernel, since the fused one has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def loss_of(workload: Workload, call: Callable[[Tensor], Tensor]) -> float:
    """The loss over all batches, as a user would write it."""
    with torch.no_grad():
        parts = [
            functional.cross_entropy(call(inputs), targets).item() * len(targets)
            for inputs, targets in workload.batches
        ]
    return sum(parts) / workload.examples


def by_interpolation(workload: Workload, frame: Frame, side: int, *, line: bool) -> Draw:
    """Give loss-landscapes' way to the places of a frame."""
    import loss_landscapes
    from loss_landscapes.metrics.metric import Metric

    class Loss(Metric):
        def __call__(self, model_wrapper: Any) -> float:
            return loss_of(workload, model_wrapper.forward)

    lows = [axis.low for axis in frame.axes]
    spans = [axis.high - axis.low for axis in frame.axes]
    steps = [span / (side - 1) for span in spans]
    # Its own step is the whole over `side`; the first axis is stepped along after a row, the second before a place.
    corner = (lows[0] - steps[0], 0.0) if line else (lows[0], lows[1] - steps[1])
    one = (corner[0] + side * steps[0], corner[1])
    two = (corner[0], corner[1] + side * steps[1])
    start, *ends = (_moved(workload.model, frame, place) for place in (corner, one, two))

    def draw() -> np.ndarray:
        if line:
            return loss_landscapes.linear_interpolation(start, ends[0], Loss(), side, deepcopy_model=True)
        return loss_landscapes.planar_interpolation(start, *ends, Loss(), side, deepcopy_model=True)

    return draw


def shift_of_interpolation(row: int) -> int:
    """How far the heights of a row belong from where they are put."""
    return -(row % 2)


def by_landscaper(workload: Workload, frame: Frame, side: int, *, line: bool) -> Draw:
    """Give landscaper's way to the places of a frame whose axes end at -1 and 1 and whose steps are equally long."""
    shapes = [piece.shape for piece in workload.model.parameters()]
    kind = next(workload.model.parameters()).dtype
    directions = [_pieces(step.to(kind), shapes) for step in frame.steps]
    length = (
        sum(float(piece.detach().double().square().sum()) for piece in workload.model.parameters()) ** 0.5
    )
    distance = float(frame.steps[0].norm()) / length * side / (side - 1)

    def draw() -> np.ndarray:
        return _landscape(workload, directions[:1] if line else directions, side, distance)

    return draw


def along_eigenvectors(workload: Workload, side: int) -> Tensor:
    """Let landscaper find the two largest eigenvalues in size and draw the plane; give its first axis as walked."""
    from landscaper import PyHessian

    with _quiet():
        hessian = PyHessian(
            workload.model, nn.CrossEntropyLoss(), list(workload.batches), "cpu", try_cache=True
        )
        _, vectors = hessian.eigenvalues(top_n=2)
    seen: list[Tensor] = []
    _landscape(workload, vectors, side, 0.01, seen)
    return seen[side] - seen[0]


def _landscape(
    workload: Workload,
    directions: Sequence[Sequence[Tensor]],
    side: int,
    distance: float,
    seen: list[Tensor] | None = None,
) -> np.ndarray:
    from landscaper.compute import compute_loss_landscape

    def loss(model: nn.Module, data: object) -> float:
        del data
        if seen is not None and len(seen) <= side:
            seen.append(flat(model))
        return loss_of(workload, model)

    with _quiet():
        heights, _ = compute_loss_landscape(
            workload.model, None, directions, loss, side, distance, len(directions), "cpu"
        )
    return heights


class Truth:
    """The loss on a plane in float64, by nothing but PyTorch."""

    def __init__(self, workload: Workload, frame: Frame) -> None:
        self._workload = cast(workload, torch.float64)
        self._theta = flat(self._workload.model)
        self._steps = [step.double() for step in frame.steps]
        self._names = [name for name, _ in self._workload.model.named_parameters()]
        self._shapes = [piece.shape for piece in self._workload.model.parameters()]
        self._known: dict[Place, float] = {}

    def at(self, places: Sequence[Place]) -> np.ndarray:
        """Give the losses."""
        return np.array([self._at((round(x, 9), round(y, 9))) for x, y in places])

    def _at(self, place: Place) -> float:
        if place not in self._known:
            theta = self._theta + place[0] * self._steps[0] + place[1] * self._steps[1]
            own = dict(zip(self._names, _pieces(theta, self._shapes), strict=True))
            model = self._workload.model
            self._known[place] = loss_of(
                self._workload, lambda inputs: functional_call(model, own, (inputs,))
            )
        return self._known[place]


class Curvature:
    """Hessian of the loss in float64, by nothing but PyTorch and SciPy."""

    def __init__(self, workload: Workload) -> None:
        self._workload = cast(workload, torch.float64)
        self._parameters = list(self._workload.model.parameters())
        size = self._workload.size
        operator = LinearOperator(
            (size, size), lambda v: self._product(torch.from_numpy(v.ravel())).numpy(), dtype=np.float64
        )
        start = np.random.default_rng(0).standard_normal(size)
        self.largest = float(eigsh(operator, 1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)[0])

    def along(self, direction: Tensor) -> float:
        """Give the curvature along a direction."""
        unit = direction.double() / direction.double().norm()
        return float(unit @ self._product(unit))

    def trace(self) -> float:
        """Give the sum of all eigenvalues, by a product for every parameter."""
        unit = torch.zeros(self._workload.size, dtype=torch.float64)
        total = 0.0
        for index in range(len(unit)):
            unit.zero_()[index] = 1.0
            total += float(self._product(unit)[index])
        return total

    def _product(self, vector: Tensor) -> Tensor:
        pieces = _pieces(vector, [piece.shape for piece in self._parameters])
        total = torch.zeros_like(vector)
        for inputs, targets in self._workload.batches:
            loss = functional.cross_entropy(self._workload.model(inputs), targets)
            gradients = torch.autograd.grad(loss, self._parameters, create_graph=True)
            along = sum((gradient * piece).sum() for gradient, piece in zip(gradients, pieces, strict=True))
            found = torch.autograd.grad(along, self._parameters)
            share = len(targets) / self._workload.examples
            total += share * torch.cat([piece.reshape(-1) for piece in found])
        return total


def random_plane(model: nn.Module, loss: Callable[[nn.Module], float], steps: int) -> np.ndarray:
    """Give loss-landscapes' plane of random directions, as it comes."""
    import loss_landscapes
    from loss_landscapes.metrics.metric import Metric

    class Loss(Metric):
        def __call__(self, model_wrapper: Any) -> float:
            return loss(model_wrapper.get_modules()[0])

    return loss_landscapes.random_plane(model, Loss(), steps=steps)


def orthogonal_plane(model: nn.Module, loss: Callable[[nn.Module], float], steps: int) -> np.ndarray:
    """Give landscaper's plane of what it calls random orthogonal directions, to a distance of 1."""
    from landscaper.compute import compute_loss_landscape
    from landscaper.utils import generate_random_orthogonal_directions

    with _quiet():
        directions = generate_random_orthogonal_directions(model, 2)
        heights, _ = compute_loss_landscape(
            model, None, directions, lambda other, _: loss(other), steps, 1.0, 2, "cpu"
        )
    return heights


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _moved(model: nn.Module, frame: Frame, place: Place) -> nn.Module:
    moved = copy.deepcopy(model)
    pieces = list(moved.parameters())
    step = place[0] * frame.steps[0].double() + place[1] * frame.steps[1].double()
    with torch.no_grad():
        for piece, part in zip(pieces, _pieces(step, [piece.shape for piece in pieces]), strict=True):
            piece.copy_(piece.double() + part)
    return moved


def _pieces(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def flat(model: nn.Module) -> Tensor:
    """Give a copy of the parameters as one vector."""
    return torch.cat([piece.detach().reshape(-1) for piece in model.parameters()])
