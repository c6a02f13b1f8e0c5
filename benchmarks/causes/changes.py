"""What is tried from where a training stands: a change takes a fresh copy of the run and gives it back, changed."""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.causes.continuing import Run, joined, rows, size_of

Change = Callable[[Run], Run]

LARGER = 8
PERTURBATION = 0.02  # of the root mean square of all parameters


def rate(factor: float) -> Change:
    """Multiply the learning rate of every group."""

    def change(run: Run) -> Run:
        for group in run.optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        return run

    return change


def adam(learning_rate: float) -> Change:
    """Use a fresh Adam on the parameters that the present optimizer moves."""

    def change(run: Run) -> Run:
        run.optimizer = torch.optim.Adam(_moved(run), lr=learning_rate)
        return run

    return change


def momentum(run: Run) -> Run:
    """Use SGD with momentum 0.9 at the present rate."""
    run.optimizer = torch.optim.SGD(_moved(run), lr=_rate(run), momentum=0.9)
    return run


def larger_batch(run: Run) -> Run:
    """Average the gradients of eight batches in each step."""
    source = run.steps
    count = len(source)
    run.steps = [
        joined([source[(LARGER * step + turn) % count] for turn in range(LARGER)]) for step in range(count)
    ]
    return run


def whole_batch(run: Run) -> Run:
    """Use all data in each step."""
    run.steps = [joined(run.every)] * len(run.steps)
    return run


def shuffled(run: Run) -> Run:
    """Draw the examples of each epoch in a random order, in batches of the present size."""
    everything = joined(run.every)
    total, size = size_of(everything), max(map(size_of, run.every))
    generator = torch.Generator().manual_seed(5)
    drawn: list[object] = []
    while len(drawn) < len(run.steps):
        drawn += [rows(everything, part) for part in torch.randperm(total, generator=generator).split(size)]
    run.steps = drawn[: len(run.steps)]
    return run


def fresh_state(run: Run) -> Run:
    """Forget what the optimizer has gathered."""
    run.optimizer.state.clear()
    return run


def double(run: Run) -> Run:
    """Compute and store everything in float64."""
    run.model.double()
    run.dtype = torch.float64
    for state in run.optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point() and key != "step":
                state[key] = value.double()
    return run


def perturbed(run: Run) -> Run:
    """Move every parameter a little, at random."""
    generator = torch.Generator().manual_seed(3)
    moving = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in moving)
    scale = sum(float(parameter.detach().double().square().sum()) for parameter in moving) / count
    with torch.no_grad():
        for parameter in moving:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter.dtype), alpha=PERTURBATION * max(scale, 1e-4) ** 0.5)
    return run


def initialised(run: Run) -> Run:
    """Start the model anew, as PyTorch initialises its layers, with a fresh state."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        for module in run.model.modules():
            if callable(again := getattr(module, "reset_parameters", None)):
                again()
            else:
                for parameter in module.parameters(recurse=False):
                    nn.init.normal_(parameter, std=0.05)
    run.optimizer.state.clear()
    return run


def unfrozen(run: Run) -> Run:
    """Let every parameter train, at the rate of the first group that has one."""
    moved = {id(parameter) for parameter in _moved(run)}
    missing = [parameter for parameter in run.model.parameters() if id(parameter) not in moved]
    for parameter in run.model.parameters():
        parameter.requires_grad = True
    if missing:
        run.optimizer.add_param_group({"params": missing, "lr": _rate(run)})
    for group in run.optimizer.param_groups:
        group["lr"] = group["lr"] or _rate(run)
    return run


def _moved(run: Run) -> list[nn.Parameter]:
    return [parameter for group in run.optimizer.param_groups for parameter in group["params"]]


def _rate(run: Run) -> float:
    return next((float(group["lr"]) for group in run.optimizer.param_groups if group["lr"]), 1e-3)


RATES: dict[str, Change] = {
    f"rate x{factor:g}": rate(factor) for factor in (0.01, 0.1, 0.3, 3.0, 10.0, 100.0, 1000.0)
}
OPTIMIZERS: dict[str, Change] = {"Adam 1e-3": adam(1e-3), "Adam 1e-2": adam(1e-2), "momentum 0.9": momentum}
OTHERS: dict[str, Change] = {
    "batch x8": larger_batch,
    "whole batch": whole_batch,
    "shuffled": shuffled,
    "fresh state": fresh_state,
    "float64": double,
    "perturbed": perturbed,
    "unfrozen": unfrozen,
    "initialised": initialised,
}
GOING_ON, REMEDY = "going on", "own remedy"
SMALLER = ("rate x0.01", "rate x0.1", "rate x0.3")
GREATER = ("rate x3", "rate x10", "rate x100", "rate x1000")
