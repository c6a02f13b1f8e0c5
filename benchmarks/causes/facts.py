"""What a label says of the state itself, measured by plain means that owe nothing to unstuck."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.causes.case import seeded
from benchmarks.causes.changes import adam, double, initialised
from benchmarks.causes.continuing import Run, as_dtype, joined, mean_loss, rows, size_of, tensors_of

_HELD = 0.3
_FLAT = 0.02  # of the largest slope of a sigmoid or tanh
_SLOPES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.Tanh: lambda out: 1 - out.square(),
    nn.Sigmoid: lambda out: 4 * out * (1 - out),
}


def moving(run: Run) -> dict[str, nn.Parameter]:
    """Give the parameters that ask for a gradient, by name."""
    return {name: one for name, one in run.model.named_parameters() if one.requires_grad}


def gradients(run: Run) -> dict[str, Tensor]:
    """Give the gradient of the mean loss over all training data, by the name of the parameter."""
    parameters = moving(run)
    total = {name: torch.zeros_like(one, dtype=torch.float64) for name, one in parameters.items()}
    examples = sum(map(size_of, run.every))
    with seeded(1):
        for batch in run.every:
            value = run.loss(run.model, batch) * (size_of(batch) / examples)
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, part in zip(parameters, found, strict=True):
                if part is not None:
                    total[name] += part.double()
    return total


def dead_share(run: Run) -> float:
    """Give the largest share, over layers, of units whose weights get exactly no gradient from any example."""
    shares = [float((part.flatten(1) == 0).all(1).double().mean()) for part in _matrices(run)]
    return max(shares[:-1] or shares)


def gradient_ratio(run: Run) -> float:
    """Give the smallest root mean square of a weight matrix's gradient relative to the largest."""
    sizes = [float(part.square().mean().sqrt()) for part in _matrices(run)]
    return min(sizes) / max(sizes)


def saturated_share(run: Run) -> float | None:
    """Give the largest share, over layers, of sigmoid and tanh values that have no slope; None: no such layer."""
    shares: dict[nn.Module, list[float]] = {}

    def look(module: nn.Module, _inputs: object, output: Tensor) -> None:
        slope = _SLOPES[type(module)](output.detach())
        shares.setdefault(module, []).append(float((slope < _FLAT).double().mean()))

    hooks = [m.register_forward_hook(look) for m in run.model.modules() if type(m) in _SLOPES]
    mean_loss(run, run.every)
    for hook in hooks:
        hook.remove()
    return max((sum(found) / len(found) for found in shares.values()), default=None)


def curvature(run: Run) -> tuple[float, float]:
    """Give the smallest and the largest eigenvalue of the Hessian of the loss over all data, in float64."""
    run = double(run.copy())
    leaves = list(moving(run).values())
    batch = as_dtype(joined(run.every), torch.float64)
    with sdpa_kernel(SDPBackend.MATH), seeded(1):
        slopes = torch.autograd.grad(run.loss(run.model, batch), leaves, create_graph=True, allow_unused=True)
        kept = [
            (s, leaf) for s, leaf in zip(slopes, leaves, strict=True) if s is not None and s.requires_grad
        ]
        if not kept:
            return 0.0, 0.0
        outputs, leaves = [s for s, _ in kept], [leaf for _, leaf in kept]
        sizes = [leaf.numel() for leaf in leaves]

        def multiply(vector: np.ndarray) -> np.ndarray:
            parts = torch.from_numpy(np.array(vector.ravel())).split(sizes)
            pieces = [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
            found = torch.autograd.grad(outputs, leaves, pieces, retain_graph=True, allow_unused=True)
            zeros = [
                torch.zeros_like(leaf) if f is None else f for f, leaf in zip(found, leaves, strict=True)
            ]
            return torch.cat([f.reshape(-1) for f in zeros]).numpy()

        return _ends(multiply, sum(sizes))


def _ends(multiply: Callable[[np.ndarray], np.ndarray], size: int) -> tuple[float, float]:
    if size <= 64:
        matrix = np.stack([multiply(row) for row in np.eye(size)])
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        return float(values[0]), float(values[-1])
    start = np.random.default_rng(1).standard_normal(size)
    if not np.any(multiply(start)):
        return 0.0, 0.0
    operator = LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    options = {"k": 1, "v0": start, "ncv": min(size - 1, 60), "tol": 1e-6, "return_eigenvectors": False}
    try:
        low, high = (float(eigsh(operator, which=end, **options)[0]) for end in ("SA", "LA"))
    except ArpackError:
        return float("nan"), float("nan")
    return low, high


def not_finite(run: Run) -> float:
    """Count the numbers that are NaN or infinite: in the data, the losses, the gradient, parameters and state."""
    batches = [tensor for batch in run.every for tensor in tensors_of(batch)]
    state = [one for held in run.optimizer.state.values() for one in held.values()]
    losses = torch.tensor([mean_loss(run, [batch]) for batch in run.every])
    tensors = [*batches, losses, *gradients(run.copy()).values(), *run.model.state_dict().values(), *state]
    return float(sum(int((~one.isfinite()).sum()) for one in tensors if isinstance(one, Tensor)))


def learnable(run: Run) -> float:
    """Give the best held-out loss that a fresh model reaches, relative to that of the best constant output.

    The training data is split, and the model starts anew, under the present optimizer and under Adam.
    """
    everything = joined(run.every)
    order = torch.randperm(size_of(everything), generator=torch.Generator().manual_seed(2))
    cut = round((1 - _HELD) * len(order))
    shown, held = rows(everything, order[:cut]), rows(everything, order[cut:])
    best = constant = _constant(shown, held)
    for change in (lambda one: one, adam(1e-3), adam(1e-2)):
        fresh = initialised(run.copy())
        fresh.optimizer = change(fresh).optimizer
        best = min(best, _best_held(fresh, shown, held))
    return best / constant


def _best_held(run: Run, shown: Any, held: Any) -> float:
    size = max(map(size_of, run.steps))
    generator = torch.Generator().manual_seed(4)
    best, steps = float("inf"), 0
    while steps < len(run.steps):
        for part in torch.randperm(size_of(shown), generator=generator).split(size):
            run.optimizer.zero_grad()
            run.loss(run.model, rows(shown, part)).backward()
            run.optimizer.step()
            steps += 1
        best = min(best, mean_loss(run, [held], training=False))
    return best


def _constant(shown: Any, held: Any) -> float:
    seen, unseen = (list(tensors_of(part))[-1] for part in (shown, held))
    if seen.is_floating_point():
        return float((unseen - seen.mean(0)).square().mean())
    counts = torch.bincount(seen.flatten(), minlength=int(unseen.max()) + 1).double() + 1e-3
    return float(-(counts / counts.sum()).log()[unseen.flatten()].mean())


def _matrices(run: Run) -> list[Tensor]:
    return [part for part in gradients(run).values() if part.ndim >= 2]
