"""What was seen of Cockpit and of us beside trainings, on small networks."""

import tempfile
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

import unstuck
from benchmarks.peers.cockpits import Watched
from benchmarks.tables import Table

Model = Callable[[], nn.Module]
Optimizer = Callable[..., torch.optim.Optimizer]

_STEPS = 30


def habits() -> Table:
    """Watch trainings that are unlike a plain one."""
    rows = [
        [words, _kept(model, optimizer, size), _under(model, optimizer, size, quantities)]
        for words, (model, optimizer, size, quantities) in _CASES.items()
    ]
    note = (
        "The upper rows are measured: whether thirty steps end with the same weights, to the bit, as without being "
        "watched. The lower ones are read in the code."
    )
    return Table("What each cannot do", ("seen", "unstuck", "Cockpit"), [*rows, *_KNOWN], note, keys=1)


def _kept(model: Model, optimizer: Optimizer, size: int) -> str:
    plain, watched = (_trained(model(), optimizer, size, watch=watch) for watch in (False, True))
    return "the same weights" if torch.equal(plain, watched) else "other weights"


def _trained(model: nn.Module, optimizer: Optimizer, size: int, *, watch: bool) -> Tensor:
    torch.manual_seed(1)
    batch = _batches(size)
    made = optimizer(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        watching = unstuck.watch(model, made, out=folder) if watch else None
        for _ in range(_STEPS):
            inputs, targets = batch()
            made.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            made.step()
        if watching is not None:
            watching.close()
    return _weights(model)


def _under(model: Model, optimizer: Optimizer, size: int, quantities: Sequence[str] | str) -> str:
    plain = _trained(model(), optimizer, size, watch=False)
    torch.manual_seed(1)
    try:
        watched = Watched(model(), optimizer, _batches(size), quantities)
        for _ in range(_STEPS):
            watched.step()
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:110]
    return "the same weights" if torch.equal(plain, _weights(watched.model)) else "other weights"


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([piece.detach().reshape(-1) for piece in model.parameters()])


def _batches(size: int) -> Callable[[], tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def batch() -> tuple[Tensor, Tensor]:
        return torch.randn(size, 8, generator=generator), torch.randint(3, (size,), generator=generator)

    return batch


def _built(*layers: Callable[[], nn.Module]) -> Model:
    def build() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(8, 8), *(layer() for layer in layers), nn.Linear(8, 3))

    return build


def _frozen() -> nn.Module:
    model = _built(nn.Tanh)()
    model[0].requires_grad_(requires_grad=False)
    return model


class _Tokens(nn.Module):
    """Eight features as two tokens of a transformer's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.unflatten(-1, (2, 4))).flatten(1)


def _descent(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def _momentum(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def _adam(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters)


# Network, optimizer, examples in a batch, and what Cockpit is asked for.
_CASES: dict[str, tuple[Model, Optimizer, int, Sequence[str] | str]] = {
    "an MLP, SGD; Cockpit's economy configuration": (_built(nn.Tanh), _descent, 32, "economy"),
    "with dropout; its full configuration": (_built(nn.Tanh, nn.Dropout), _descent, 32, "full"),
    "with BatchNorm; economy": (_built(lambda: nn.BatchNorm1d(8), nn.Tanh), _descent, 32, "economy"),
    "with LayerNorm; economy": (_built(lambda: nn.LayerNorm(8), nn.Tanh), _descent, 32, "economy"),
    "a transformer's layer; economy": (_built(_Tokens), _descent, 32, "economy"),
    "a frozen layer; loss alone": (_frozen, _descent, 32, ("Loss",)),
    "momentum; economy": (_built(nn.Tanh), _momentum, 32, "economy"),
    "Adam; batch size by CABS": (_built(nn.Tanh), _adam, 32, ("CABS",)),
    "one example in a batch; economy": (_built(nn.Tanh), _descent, 1, "economy"),
}

_KNOWN = (
    ("killed without warning", "all but the last moments is on disk", "nothing: `write` is for the end"),
    ("an exception inside", "is recorded, the training goes on", "ends the training"),
    ("says why a loss stands still", "of the causes, those that a live run shows", "no: 14 instruments to read"),
    ("error of a number", "of every one that is an estimate", "none"),
    ("in the user's code", "nothing, or one line", "model and loss extended, each backward pass in its context"),
    ("histograms of gradients' elements", "no", "yes, in one and two dimensions"),
)  # fmt: skip
