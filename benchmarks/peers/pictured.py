"""What was seen of each package that draws pictures of the loss, on a network of a few weights."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import unstuck
from benchmarks.peers import landscapes
from benchmarks.peers.invited import LANDSCAPER, LOSS_LANDSCAPES
from benchmarks.tables import Table
from benchmarks.workloads import batches, perceptron

Loss = Callable[[nn.Module], Tensor]
Way = Callable[[nn.Module, Loss], np.ndarray]

_STEPS = 9


def habits(invited: set[str]) -> Table:
    """Look at everybody's habits, each by its own call for a plane of random directions."""
    ways: dict[str, Way] = {"unstuck": _ours}
    if LOSS_LANDSCAPES.name in invited:
        ways[LOSS_LANDSCAPES.name] = _theirs(landscapes.random_plane)
    if LANDSCAPER.name in invited:
        ways[LANDSCAPER.name] = _theirs(landscapes.orthogonal_plane)
    rows = [[words, *(look(way) for way in ways.values())] for words, look in _LOOKS.items()]
    rows += [[words, *(known[name] for name in ways)] for words, known in _KNOWN.items()]
    rows.append(["cosine between the two random directions", *(_cosines()[name]() for name in ways)])
    note = (
        "The upper rows are measured on a network of 83 weights, the lower ones read in the packages' code."
    )
    return Table("What each does to a training, and cannot do", ("seen", *ways), rows, note, keys=1)


def _ours(model: nn.Module, loss: Loss) -> np.ndarray:
    training = unstuck.Training(model, lambda own, _: loss(own), [torch.zeros(1)])
    plane = unstuck.surface(training, along="random", budget=1.0).view.planes[0]
    return np.array(plane.training, dtype=float)


def _theirs(draw: Callable[[nn.Module, Callable[[nn.Module], float], int], np.ndarray]) -> Way:
    def drawn(model: nn.Module, loss: Loss) -> np.ndarray:
        def height(own: nn.Module) -> float:
            with torch.no_grad():
                return loss(own).item()

        return draw(model, height, _STEPS)

    return drawn


def _network() -> tuple[nn.Module, Loss]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        nn.init.normal_(model[1].bias)
        inputs, targets = torch.randn(64, 4), torch.randint(3, (64,))
    return model, lambda own: functional.cross_entropy(own(inputs), targets)


def _moved(way: Way) -> str:
    model, loss = _network()
    before = landscapes.flat(model)
    way(model, loss)
    return f"{float((landscapes.flat(model) - before).norm() / before.norm()):.1%}"


def _frozen(way: Way) -> str:
    model, loss = _network()
    way(model, loss)
    every = [piece.requires_grad for piece in model.parameters()]
    return f"{every.count(False)} of {len(every)}"


def _statistics(way: Way) -> str:
    model, loss = _network()
    before = [buffer.clone() for buffer in model.buffers()]
    way(model, loss)
    same = all(torch.equal(*pair) for pair in zip(before, model.buffers(), strict=True))
    return "as before" if same else "changed"


def _random_state(way: Way) -> str:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    way(*_network())
    same = torch.equal(before[0], torch.get_rng_state()), (before[1] == np.random.get_state()[1]).all()
    return "as before" if all(same) else "drawn from"


def _undefined(way: Way) -> str:
    """Whether a loss that is not a number in a part of the plane is shown as such there."""
    model, loss = _network()
    first = model[0].weight.detach()[0, 0].clone()
    heights = way(model, lambda own: loss(own) + 0.0 * (own[0].weight[0, 0] / first).log())
    return "left blank" if np.count_nonzero(~np.isfinite(heights)) else "given a height"


def _at_zero(way: Way) -> str:
    model, loss = _network()
    nn.init.zeros_(model[1].bias)
    try:
        way(model, loss)
    except ZeroDivisionError as error:
        return f"raises: {error}"
    return "drawn"


def _noise(way: Way) -> str:
    """Draw twice from the same random state: everything is the same but what is made up."""
    drawn = []
    for seed in (0, 1):
        torch.manual_seed(0)
        np.random.seed(seed)
        drawn.append(way(*_network()))
    both = np.isfinite(drawn[0]) & np.isfinite(drawn[1])  # ours may not have come equally far in its time
    return f"{np.count_nonzero((drawn[0] != drawn[1])[both])} of {np.count_nonzero(both)}"


def _cosines() -> dict[str, Callable[[], float]]:
    """How nearly parallel everybody's two random directions are, by the network of workload a before training."""

    def of_ours() -> float:
        training = unstuck.Training(
            perceptron(64, 64, 64, 10), unstuck.supervised(functional.cross_entropy), batches()
        )
        return unstuck.surface(training, along="random", budget=2.0).view.planes[0].cosine

    def of_loss_landscapes() -> float:
        from loss_landscapes.model_interface import model_parameters as ways

        theta = ways.ModelParameters([piece.detach() for piece in perceptron(64, 64, 64, 10).parameters()])
        first = ways.rand_u_like(theta)
        second = ways.orthogonal_to(first)
        return _cosine(first.parameters, second.parameters)

    def of_landscaper() -> float:
        from landscaper.utils import generate_random_orthogonal_directions

        return _cosine(*generate_random_orthogonal_directions(perceptron(64, 64, 64, 10), 2))

    return {"unstuck": of_ours, LOSS_LANDSCAPES.name: of_loss_landscapes, LANDSCAPER.name: of_landscaper}


def _cosine(*directions: list[Tensor]) -> float:
    first, second = (torch.cat([piece.reshape(-1) for piece in pieces]).double() for pieces in directions)
    return float(first @ second / (first.norm() * second.norm()))


_LOOKS: dict[str, Callable[[Way], str]] = {
    "weights afterwards, moved by this part of their length": _moved,
    "parameters that lost `requires_grad`": _frozen,
    "running statistics of BatchNorm in train mode": _statistics,
    "PyTorch's and NumPy's global random state": _random_state,
    "heights with made-up noise": _noise,
    "where the loss is not a number": _undefined,
    "a parameter tensor that is all zero, as a new BatchNorm's bias": _at_zero,
}

# Read in the code of the versions named in `landscapes`; what the other tables show is not repeated.
_KNOWN: dict[str, dict[str, str]] = {
    "error of a height": {
        "unstuck": "of every height, batch by batch",
        LOSS_LANDSCAPES.name: "none",
        LANDSCAPER.name: "none",
    },
    "loss on validation data in the same picture": {
        "unstuck": "yes",
        LOSS_LANDSCAPES.name: "no",
        LANDSCAPER.name: "no",
    },
    "along eigenvectors": {
        "unstuck": "both ends of the spectrum, judged on other data",
        LOSS_LANDSCAPES.name: "no Hessian products",
        LANDSCAPER.name: "the largest in size; every tensor of them rescaled",
    },
    "along the path of a run": {
        "unstuck": "recorded or continued on a copy",
        LOSS_LANDSCAPES.name: "its tracker holds every place in memory",
        LANDSCAPER.name: "no",
    },
    "how far": {
        "unstuck": "until where the quadratic model has changed by the loss, or one filter's length",
        LOSS_LANDSCAPES.name: "twice the `distance` is half as far: it is divided by",
        LANDSCAPER.name: "`distance`, which the caller has to guess",
    },
    "topology of the surface": {
        "unstuck": "no",
        LOSS_LANDSCAPES.name: "no",
        LANDSCAPER.name: "merge trees, persistence",
    },
    "more than two dimensions": {"unstuck": "no", LOSS_LANDSCAPES.name: "no", LANDSCAPER.name: "yes"},
}
