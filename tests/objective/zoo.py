"""Models that people really train, each with a habit that borrowing it must survive."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from unstuck import Training, supervised

FEATURES, CLASSES = 6, 3

# Of networks as small as these, a second thread only spins; beside other programs it takes a hundred times longer.
torch.set_num_threads(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(*sizes: int, features: int = FEATURES) -> list[Any]:
    drawn = generator()
    return [
        (torch.randn(size, features, generator=drawn), torch.randint(CLASSES, (size,), generator=drawn))
        for size in sizes
    ]


class Unbuffered(nn.Module):
    """Counts, keeps lists, and moves buffers and plain tensors in every way that leaves no trace."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("scale", torch.ones(CLASSES))
        self.plain = torch.zeros(CLASSES)
        self.array = np.zeros(CLASSES)
        self.calls, self.history, self.nested = 0, [], {"deep": [0]}
        self.drawn = np.random.default_rng(5)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.history.append(self.calls)
        self.nested["deep"][0] += 1
        self.fresh = x.shape
        self.seen = self.seen + 1
        self.scale.data.mul_(1.01)
        self.plain += 0.1
        self.array += 0.1
        factor = 1.0 + 0.1 * self.drawn.random() + 0.01 * float(self.array.sum())
        return self.layer(x) * self.scale * factor + self.plain + 0.1 * self.seen


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = kind(2, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unflatten(1, (3, 2)))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 2, batch_first=True, dropout=0.1)
        self.layer = nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        words = x.unflatten(1, (3, 2))
        words = words + self.attention(words, words, words, need_weights=False)[0]
        return self.head(self.layer(words).flatten(1))


class Checkpointed(nn.Module):
    def __init__(self, *, use_reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 5)
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Dropout(0.2), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, CLASSES)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inner, self.first(x), use_reentrant=self.use_reentrant))


class Embedded(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4, **options)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x[:, :2].abs().mul(3).long().clamp(0, 9)).tanh().mean(1))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * (1.0 - ctx.saved_tensors[0].tanh().square())


class Handwritten(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self[1](Once.apply(self[0](x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, FEATURES, bias=False)
        self.outer = nn.Linear(FEATURES, FEATURES)
        self.outer.weight = self.inner.weight
        self.frozen = nn.Linear(FEATURES, FEATURES).requires_grad_(requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.whole = nn.Parameter(torch.arange(3), requires_grad=False)
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.temperature * self.outer(self.frozen(self.inner(x)).tanh())[:, :CLASSES]


class Moody(nn.Module):
    """Switches its modes and registers a hook in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        self.body.eval() if self.body.training else self.body.train()
        self.body.register_forward_hook(lambda *_: None)
        return self.body(x)


class Running(nn.Module):
    """A criterion with state, and with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(CLASSES))
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.centre.mul_(0.9).add_(outputs.detach().mean(0), alpha=0.1)
        return nn.functional.cross_entropy((outputs - self.centre) / self.temperature, targets)


def perceptron(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 8), *between, nn.Tanh(), nn.Linear(8, CLASSES))


def hooked() -> nn.Module:
    seen: list[float] = []
    model = perceptron()
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(float(output.detach().sum())))
    model[2].register_full_backward_hook(lambda *_: None)
    return model


def parametrized() -> nn.Module:
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(FEATURES, 8)),
        parametrizations.weight_norm(nn.Linear(8, CLASSES)),
    )


def once_spectral() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(FEATURES, 8)), nn.Linear(8, CLASSES))


def compiled() -> nn.Module:
    return torch.compile(perceptron(nn.BatchNorm1d(8)), backend="eager")  # type: ignore[return-value]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: perceptron(nn.BatchNorm1d(8)),
    "dropout": lambda: perceptron(nn.Dropout(0.5)),
    "traceless changes": Unbuffered,
    "hooks": hooked,
    "tied, frozen, unused, integer and 0-dim parameters": Tied,
    "lstm": partial(Recurrent, nn.LSTM),
    "gru": partial(Recurrent, nn.GRU),
    "parametrizations": parametrized,
    "spectral norm by hooks": once_spectral,
    "compiled": compiled,
    "attention": Attentive,
    "reentrant checkpoint": partial(Checkpointed, use_reentrant=True),
    "checkpoint": partial(Checkpointed, use_reentrant=False),
    "sparse embedding": partial(Embedded, sparse=True),
    "renormed embedding": partial(Embedded, max_norm=0.5),
    "once differentiable": Handwritten,
    "modes and hooks changed in forward": Moody,
}


def plain(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    return supervised(nn.functional.cross_entropy)


def of_global(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    return lambda _, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])


def autocast(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    def loss(given: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.cross_entropy(given(batch[0]), batch[1])

    return loss


def moody(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    def loss(given: nn.Module, batch: Any) -> Tensor:
        given.eval()
        quiet = given(batch[0])
        given.train()
        return nn.functional.cross_entropy(given(batch[0]), batch[1]) + quiet.square().mean()

    return loss


def grasping(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    """Writes on its batch, keeps what it sees, and counts in a closure."""
    steps, history = 0, []

    def loss(given: nn.Module, batch: Any) -> Tensor:
        nonlocal steps
        steps += 1
        inputs, targets = batch.pop("inputs"), batch.pop("targets")
        inputs.mul_(0.5)
        history.append(given(inputs))
        return (1.0 + 0.1 * steps) * nn.functional.cross_entropy(history[-1], targets)

    return loss


def stateful(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    return supervised(Running())


def penalised(model: nn.Module) -> Callable[[nn.Module, Any], Tensor]:
    """Differentiates by its inputs, which does not work under `no_grad`."""

    def loss(given: nn.Module, batch: Any) -> Tensor:
        inputs = batch[0].requires_grad_()
        outputs = given(inputs)
        (slope,) = torch.autograd.grad(outputs.logsumexp(1).sum(), inputs, create_graph=True)
        return nn.functional.cross_entropy(outputs, batch[1]) + slope.square().mean()

    return loss


LOSSES = {
    "a global model": of_global,
    "autocast": autocast,
    "modes": moody,
    "a closure and its batch": grasping,
    "its own buffers": stateful,
    "a gradient penalty": penalised,
}


# Each model with a plain loss, and each loss with a plain model.
CASES = [
    *((name, make, plain) for name, make in MODELS.items()),
    *((name, MODELS["batch norm"], loss) for name, loss in LOSSES.items()),
]


def training(model: nn.Module, loss: Any = plain, data: Any = None) -> Training:
    """A training some steps after its start, with gradients, optimizer state and a scheduler."""
    data = data or batches(8, 8, 8, 5)
    if loss is grasping:
        data = [{"inputs": inputs, "targets": targets} for inputs, targets in data]
    made = loss(model)
    dense = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    optimizer = (
        torch.optim.SGD(dense, lr=0.1) if sparse else torch.optim.AdamW(dense, lr=1e-3, weight_decay=0.1)
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(2):
        optimizer.zero_grad()
        made(model, dict(data[0]) if isinstance(data[0], dict) else data[0]).backward()
        optimizer.step()
        scheduler.step()
    return Training(model, made, data, optimizer, scheduler)
