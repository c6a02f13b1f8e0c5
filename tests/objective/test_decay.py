from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import perceptron

from unstuck.objective.decay import decay_coefficients
from unstuck.objective.parameters import Parameters

# So many steps that the bias corrections of all moments are one.
LATE = 1e14

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {}),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (torch.optim.Adam, {}),
    "AdamW": (torch.optim.AdamW, {}),
    "AdamW with amsgrad": (torch.optim.AdamW, {"amsgrad": True}),
    "Adam made decoupled": (torch.optim.Adam, {"decoupled_weight_decay": True}),
    "NAdam": (torch.optim.NAdam, {}),
    "NAdam made decoupled": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    "RAdam made decoupled": (torch.optim.RAdam, {"decoupled_weight_decay": True}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "RMSprop": (torch.optim.RMSprop, {}),
    "Adamax": (torch.optim.Adamax, {}),
    "Adadelta": (torch.optim.Adadelta, {}),
}


def settle(optimizer: torch.optim.Optimizer, gradients: dict[Tensor, Tensor]) -> None:
    """Give the state that an optimizer has after long at one point: the mean of what it averages."""
    for group in optimizer.param_groups:
        coupled = not group.get("decoupled_weight_decay", False)
        for parameter in group["params"]:
            state, gradient = optimizer.state[parameter], gradients[parameter]
            averaged = gradient + group["weight_decay"] * parameter.detach() if coupled else gradient
            for name, value in (("step", LATE), ("exp_avg", averaged), ("mu_product", 0.0)):
                if name in state:
                    state[name] = torch.as_tensor(value)
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"] = averaged


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_optimizer_rests_where_gradient_and_decay_cancel(kind, options):
    torch.manual_seed(0)
    model = perceptron().double()
    groups = [
        {"params": list(model[0].parameters()), "weight_decay": 0.3},
        {"params": list(model[2].parameters()), "weight_decay": 0.1},
    ]
    optimizer = kind(groups, lr=1e-3, **options)
    for _ in range(3):  # so that there is a second moment
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (0.9, 1.0 - 1e-12)  # so that the next step leaves the second moment as it is
    settle(optimizer, {parameter: torch.zeros_like(parameter) for parameter in model.parameters()})
    parameters = Parameters(model)
    theta, coefficients = parameters.current(), decay_coefficients(optimizer, parameters)
    assert coefficients is not None
    balance = parameters.pieces(-coefficients * theta)
    settle(optimizer, dict(zip(model.parameters(), balance, strict=True)))
    for parameter, gradient in zip(model.parameters(), balance, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()
    moved = (parameters.current() - theta).abs()
    assert bool((moved <= 1e-3 * 1e-3 * theta.abs() + 1e-12).all())


def test_groups_without_decay_and_parameters_of_no_group_have_none():
    model = perceptron()
    optimizer = torch.optim.SGD(
        [{"params": model[0].weight, "weight_decay": 0.5}, {"params": model[0].bias}], lr=0.1
    )
    parameters = Parameters(model)
    coefficients = decay_coefficients(optimizer, parameters)
    assert coefficients is not None
    weight, *others = parameters.pieces(coefficients)
    assert bool((weight == 0.5).all())
    assert not any(bool(other.any()) for other in others)


def test_no_decay_no_optimizer_a_stranger_and_a_fresh_adamw_give_none():
    class Stranger(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.1})

    model = nn.Linear(2, 2)
    parameters = Parameters(model)
    assert decay_coefficients(None, parameters) is None
    for optimizer in (
        torch.optim.SGD(model.parameters(), lr=0.1),
        Stranger(model.parameters()),
        torch.optim.AdamW(model.parameters(), weight_decay=0.1),
    ):
        assert decay_coefficients(optimizer, parameters) is None
