"""Saddles, each exactly where it is and a little beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.workloads import Transformer
from unstuck import Training
from unstuck.demos.critical import Product
from unstuck.demos.digits import CLASSES, PIXELS, digits, projections
from unstuck.demos.networks import initialised, perceptron, solved, widened
from unstuck.objective import Objective, draw

# How far beside the saddle: so many times a standard normal number on each parameter.
BESIDE = 1e-4

# The rivals need hundreds of thousands of gradients.
_EXAMPLES = 600

# Batches that unstuck sees the data in; the rivals get all in one, which is the same loss.
_BATCH = 150

Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Problem:
    """A network at a saddle of the loss over all its data.

    Attributes:
        name: As in the tables.
        model: At the saddle.
        loss: Mean over a batch.
        inputs: All of them.
        targets: All of them.
    """

    name: str
    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor

    def training(self) -> Training:
        """Give what unstuck is handed."""
        batches = zip(self.inputs.split(_BATCH), self.targets.split(_BATCH), strict=True)
        return Training(self.model, self.loss, list(batches))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def objective(
        self, beside: float = 0.0, seed: int = 0, *, kind: type[Objective] = Objective
    ) -> Objective:
        """Give the loss as unstuck sees it, `beside` the saddle."""
        training = self.training()
        objective = kind(training, draw(training.data, seed=0, enough=lambda *_: False).batches)
        objective.theta = objective.theta + beside * noise(objective.theta, seed)
        return objective


def noise(theta: Tensor, seed: int) -> Tensor:
    """Draw a standard normal vector."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    return torch.randn(theta.numel(), generator=generator).to(theta)


def squares(model: nn.Module, batch: Any) -> Tensor:
    """Mean over examples of the squared error, summed over outputs, halved."""
    inputs, targets = batch
    return 0.5 * (model(inputs) - targets).square().sum(dim=-1).mean()


def entropy(decay: float = 0.0) -> Loss:
    """Make the cross-entropy with an L2 penalty."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        penalty = sum(parameter.square().sum() for parameter in model.parameters())
        return functional.cross_entropy(model(inputs), targets) + 0.5 * decay * penalty

    return loss


def settle(problem: Problem, *, only: Callable[[str], bool] = lambda _: True) -> Problem:
    """Bring the parameters named to a critical point, in float64, by L-BFGS; in place."""
    model = problem.model.double()
    chosen = [parameter for name, parameter in model.named_parameters() if only(name)]
    inputs = problem.inputs.double()
    targets = problem.targets.double() if problem.targets.is_floating_point() else problem.targets
    optimizer = torch.optim.LBFGS(
        chosen,
        max_iter=3000,
        max_eval=6000,
        history_size=50,
        tolerance_grad=1e-10,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss(model, (inputs, targets))
        loss.backward()
        return loss

    optimizer.step(closure)
    model.float().zero_grad(set_to_none=True)
    return problem


def lecture() -> Problem:
    """L = (1 - w1 w2)^2 at the origin."""
    one = torch.ones(1)
    return Problem(
        "w1 w2", Product(), lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), one, one
    )


def linear(depth: int) -> Problem:
    """Deep linear network from digits to classes, all weights zero: order `depth`."""
    images, labels = some_digits()
    widths = [PIXELS, *([16] * (depth - 1)), CLASSES]
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
    model = nn.Sequential(*layers)
    zero(model)
    targets = functional.one_hot(labels, CLASSES).float()
    return Problem(f"linear, {depth} layers", model, squares, images, targets)


def zero(model: nn.Module) -> None:
    """Set all parameters to zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def symmetric() -> Problem:
    """Sixteen hidden units that are all alike, at the best such network."""
    images, labels = some_digits()
    copies, decay = 16, 1e-3
    narrow = initialised(perceptron(PIXELS, 1, CLASSES), seed=1)
    wide = perceptron(PIXELS, copies, CLASSES)

    def tied(model: nn.Module, batch: Any) -> Tensor:
        # The L2 penalty of sixteen copies, with w out of each.
        inputs, targets = batch
        first, _, last = model
        outputs = functional.linear(first(inputs).tanh(), copies * last.weight, last.bias)
        penalty = copies * (
            first.weight.square().sum() + first.bias.square().sum() + last.weight.square().sum()
        )
        penalty = penalty + last.bias.square().sum()
        return functional.cross_entropy(outputs, targets) + 0.5 * decay * penalty

    settle(Problem("", narrow, tied, images, labels))
    with torch.no_grad():
        wide[0].weight.copy_(narrow[0].weight.expand(copies, -1))
        wide[0].bias.copy_(narrow[0].bias.expand(copies))
        wide[2].weight.copy_(narrow[2].weight.expand(-1, copies))
        wide[2].bias.copy_(narrow[2].bias)
    return Problem("symmetric units", wide, entropy(decay), images, labels)


def split() -> Problem:
    """A neuron of a trained network split in two parts that pass on 0.4 and 0.6 of its output."""
    features, labels = projections()
    targets = functional.one_hot(labels, CLASSES).float()
    narrow = initialised(perceptron(features.shape[1], 3, CLASSES), seed=0)
    settle(Problem("", narrow, squares, features, targets))
    wide = perceptron(features.shape[1], 4, CLASSES)
    with torch.no_grad():
        wide[0].weight.copy_(narrow[0].weight[[0, 1, 2, 2]])
        wide[0].bias.copy_(narrow[0].bias[[0, 1, 2, 2]])
        wide[2].weight.copy_(narrow[2].weight[:, [0, 1, 2, 2]] * torch.tensor([1.0, 1.0, 0.4, 0.6]))
        wide[2].bias.copy_(narrow[2].bias)
    return Problem("split neuron", wide, squares, features, targets)


def some_digits() -> tuple[Tensor, Tensor]:
    """Load the first of the digits and their labels."""
    images, labels = digits()
    return images[:_EXAMPLES], labels[:_EXAMPLES]


def autoencoder() -> Problem:
    """64-16-64 with tanh, all weights zero, the output's bias at the mean image."""
    images, _ = some_digits()
    model = perceptron(PIXELS, 16, PIXELS)
    with torch.no_grad():
        model[2].bias.copy_(images.mean(dim=0))
    return Problem("autoencoder", model, squares, images, images)


def transformer() -> Problem:
    """A transformer with all output projections zero, and embedding and head zero but for the classes' shares.

    Nothing passes back through the head, and the head sees the same of every image.
    """
    images, labels = (part[:150] for part in digits())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(width=16, heads=2, depth=1)
    zero(model.embedding)
    for block in model.blocks:
        zero(block.attention[1].outputs)
        zero(block.dense[3])
    zero(model.head[1])
    with torch.no_grad():
        model.head[1].bias.copy_(labels.bincount(minlength=CLASSES).div(len(labels)).log())
    return Problem("transformer", model, entropy(), images, labels)


def zero_neurons() -> Problem:
    """A trained network of three units, widened by 61 that are zero."""
    images, labels = digits()
    model = widened(solved(perceptron(PIXELS, 3, CLASSES), "saddle"), 64)
    return Problem("zero neurons", model, entropy(1e-2), images, labels)


MAKERS = {
    "lecture": lecture,
    "linear2": lambda: linear(2),
    "linear3": lambda: linear(3),
    "linear4": lambda: linear(4),
    "symmetric": symmetric,
    "split": split,
    "autoencoder": autoencoder,
    "transformer": transformer,
    "zero": zero_neurons,
}


@cache
def problem(name: str) -> Problem:
    """Make one of the problems, once a process."""
    return MAKERS[name]()
