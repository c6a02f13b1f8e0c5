"""What was seen of each package that estimates the noise of gradients, on small networks."""

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import unstuck
from benchmarks.peers.cockpits import Watched, still
from benchmarks.peers.invited import COCKPIT, GNS
from benchmarks.tables import Table

Pair = tuple[Tensor, Tensor]
Way = Callable[[nn.Module, Pair], object]


def habits(invited: set[str]) -> Table:
    """Ask everybody on networks that are unlike a plain one."""
    ways: dict[str, Way] = {"unstuck": _ours}
    ways |= {GNS.name: _gns} if GNS.name in invited else {}
    ways |= {COCKPIT.name: _cockpit} if COCKPIT.name in invited else {}
    rows: list[list[object]] = [
        [words, *(_told(way, make(), size) for way in ways.values())]
        for words, (make, size) in _CASES.items()
    ]
    rows.append(["Python's global random state", *(_random_state(way) for way in ways.values())])
    rows += [[words, *(known[name] for name in ways)] for words, known in _KNOWN.items()]
    note = (
        "The upper rows are measured on networks of a hundred weights or so; the lower ones read in the code."
    )
    return Table("What each cannot do", ("seen", *ways), rows, note, keys=1)


def _told(way: Way, model: nn.Module, size: int) -> str:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(size, 8, generator=generator), torch.randint(3, (size,), generator=generator)
    try:
        return str(way(model, pair))
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]


def _ours(model: nn.Module, pair: Pair) -> str:
    data = list(zip(*(part.split(32) for part in pair), strict=True))
    training = unstuck.Training(model, unstuck.supervised(functional.cross_entropy), data)
    noise = unstuck.batch_size(training, budget=1.0).sizing.noise
    if noise is None:
        return "none, and says so"
    simple = noise.simple
    how = "single examples" if noise.separable else "whole batches"
    value = "no value" if simple.estimate is None else f"{simple.estimate.value:.3g}"
    return f"{value} ({simple.low:.3g} to {simple.high:.3g}), by {how}"


def _gns(model: nn.Module, pair: Pair) -> str:
    from gns_pytorch import compute_gns

    losses = functional.cross_entropy(model(pair[0]), pair[1], reduction="none")
    return f"{compute_gns(losses, model, 1.0, 1.0):.3g}"


def _cockpit(model: nn.Module, pair: Pair) -> str:
    watched = Watched(model, still, lambda: pair, ("NormTest",))
    watched.step()
    return f"{len(pair[1]) * watched.last('NormTest') ** 2:.3g}"


def _random_state(way: Way) -> str:
    before = random.getstate()
    _told(way, _plain(), 64)
    return "as before" if random.getstate() == before else "drawn from"


def _plain() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def _normalised() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).train()


def _layer_norm() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def _frozen() -> nn.Module:
    model = _plain()
    model[0].requires_grad_(requires_grad=False)
    return model


class _Residual(nn.Module):
    """A block with a parameter of its own and a sum, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _plain()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * self.inner(inputs) + inputs[:, :3]


# A network and how many examples.
_CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "a plain MLP, labels drawn at random, 256 examples": (_plain, 256),
    "BatchNorm in train mode": (_normalised, 256),
    "LayerNorm": (_layer_norm, 256),
    "a module with a parameter and a sum of its own": (_Residual, 256),
    "a frozen layer": (_frozen, 256),
    "one example": (_plain, 1),
}

_KNOWN: dict[str, dict[str, str]] = {
    "error": {"unstuck": "standard error and 95 % interval", GNS.name: "none", COCKPIT.name: "none"},
    "where signal drowns in noise": {
        "unstuck": "no value, a lower end",
        GNS.name: "0, or a number far too small (table above, a)",
        COCKPIT.name: "about the batch size, whatever it is",
    },
    "by parameter tensor, in the optimizer's metric, weighted by curvature": {
        "unstuck": "yes",
        GNS.name: "no",
        COCKPIT.name: "no",
    },
    "in the user's code": {
        "unstuck": "nothing",
        GNS.name: "a forward pass that gives a loss for every example",
        COCKPIT.name: "model and loss extended by BackPACK, every backward pass in its context",
    },
}
