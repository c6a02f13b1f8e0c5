"""Make the states that the demos `saddle` and `minimum` start from: `python -m unstuck.demos.solve`.

L-BFGS, then Newton's method with the dense Hessian, all in float64, until the gradient is rounding. Takes two
minutes; the states are committed, so it need only run when a network, the data or the decay changes.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from unstuck.demos.critical import MINIMUM_DECAY, MINIMUM_WIDTH, SADDLE_DECAY, SADDLE_UNITS
from unstuck.demos.digits import CLASSES, PIXELS, digits
from unstuck.demos.networks import initialised, perceptron

STATES = Path(__file__).parent / "states"
CONVERGED = 1e-10  # of the norm of the gradient: well below what storing the state in float32 leaves of it
NEWTON_STEPS = 8


def main() -> None:
    """Write both states, and say how they were reached."""
    torch.set_num_threads(1)  # the matrices are too small for more
    for name, hidden, decay in (
        ("saddle", SADDLE_UNITS, SADDLE_DECAY),
        ("minimum", MINIMUM_WIDTH, MINIMUM_DECAY),
    ):
        model = initialised(perceptron(PIXELS, hidden, CLASSES), seed=0).double()
        norm = minimise(model, decay)
        state = {key: value.float().numpy() for key, value in model.state_dict().items()}
        np.savez_compressed(STATES / f"{name}.npz", **state)  # pyright: ignore[reportArgumentType]
        sys.stdout.write(f"{name}: gradient norm {norm:.1e}\n")


def minimise(model: nn.Module, decay: float) -> float:
    """Train on all digits until the gradient is rounding; gives the norm that is left.

    Raises:
        ArithmeticError: Newton's method did not converge.
    """
    parameters = list(model.parameters())
    inputs, labels = digits()
    inputs = inputs.double()

    def loss() -> Tensor:
        penalty = torch.stack([parameter.square().sum() for parameter in parameters]).sum()
        return nn.functional.cross_entropy(model(inputs), labels) + decay / 2 * penalty

    _descend(parameters, loss)
    for _ in range(NEWTON_STEPS):
        gradient, hessian = _derivatives(parameters, loss)
        if gradient.norm() < CONVERGED:
            return float(gradient.norm())
        step = torch.linalg.solve(hessian, gradient)
        vector_to_parameters(parameters_to_vector(parameters).detach() - step, parameters)
    msg = f"Newton's method did not converge in {NEWTON_STEPS} steps: start from another seed"
    raise ArithmeticError(msg)


def _descend(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=3000,
        max_eval=6000,
        history_size=50,
        tolerance_grad=1e-9,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def _derivatives(
    parameters: list[nn.Parameter], loss: Callable[[], Tensor]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    gradient = _flat(torch.autograd.grad(loss(), parameters, create_graph=True))
    rows = [_flat(torch.autograd.grad(entry, parameters, retain_graph=True)) for entry in gradient]
    return gradient.detach(), torch.stack(rows)


def _flat(pieces: Sequence[Tensor]) -> Float[Tensor, " n"]:
    return torch.cat([piece.flatten() for piece in pieces])


if __name__ == "__main__":
    main()
