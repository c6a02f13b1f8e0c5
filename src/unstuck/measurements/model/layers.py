"""The health of activations and gradients, layer by layer."""

import contextlib
import math
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_flatten, tree_unflatten

from unstuck.errors import MeasurementError, UnstuckError
from unstuck.measurements.judging import Judge
from unstuck.measurements.model.activations import Nonlinearity, Product, Watch
from unstuck.measurements.model.tallies import Tally
from unstuck.measurements.records.layers import Depth, Inputs, Layers, ParameterScale
from unstuck.objective import Objective
from unstuck.objective.ledger import GRADIENT, VALUE
from unstuck.objective.replay import finite
from unstuck.objective.sampling import one_line
from unstuck.training import Training

# So many steps of a recurrent network are told.
_STEPS = 64

# Rows this near to each other, of their length, are the same but for rounding in single precision.
_ALIKE = 1e-4

# Of a layer whose units are copies of more than so many different ones, none are looked for.
_FAMILIES = 4

# What watching one batch costs, in its gradients, and the batches that are watched at least.
_WATCHED, _FEWEST = 3.0, 3

# The mean output of fewer examples than this gives away what they are.
_BLINDED = 8


def measure_layers(training: Training, judge: Judge, *, affordable: float = math.inf) -> Layers:
    """Watch the half that judges go through the model, and its gradient come back.

    Costs one gradient and two values over that half, and as much again for watching. Units lie along the last axis,
    after a convolution along that of its channels.

    Args:
        training: Whose model it is.
        judge: Its judging batches are watched, or a few of them.
        affordable: Gradients over the sample that it may cost; some batches are watched whatever it is.

    Raises:
        MeasurementError: The model does not bear being watched, or there is nothing to be seen in it.
    """
    objective, indices = judge.objective, judge.halves.judges
    most = max(affordable * len(objective.batches) / _WATCHED, _FEWEST)
    if len(indices) > most:
        indices = indices[: int(most)]
    seen, blindfold = _Sums(objective), _Blindfold(training.model)
    try:
        for index in indices:
            _watch(training, objective, index, seen, blindfold)
    except (UnstuckError, RuntimeError, NotImplementedError, TypeError) as error:
        msg = f"the model cannot be watched layer by layer: {one_line(error)}"
        raise MeasurementError(msg) from error
    if not seen.tallies and not seen.energies:
        msg = "no weight and no nonlinearity was seen"
        raise MeasurementError(msg)
    whole = judge.halves.exhaustive and len(indices) == len(judge.halves.judges)
    return replace(seen.record(_blind(objective, indices, blindfold)), whole=whole)


def _watch(
    training: Training, objective: Objective, index: int, seen: "_Sums", blindfold: "_Blindfold"
) -> None:
    replay, batch = objective.replay, objective.batches[index]
    objective.ledger.spend(GRADIENT, batch.examples)
    with replay.session(), _unfused(training.model):
        leaves = replay.leaves(objective.theta)
        names = [slot.name for slot in replay.parameters.slots]
        frozen = {name: p for name, p in training.model.named_parameters() if not p.requires_grad}
        with Watch(frozen | dict(zip(names, leaves, strict=True))) as watch, blindfold.collecting():
            loss = replay.loss(batch, leaves)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        seen.add(watch, finite(loss), replay.parameters.flatten(gradients), index)


@contextlib.contextmanager
def _unfused(model: nn.Module) -> Generator[None]:
    """Let an LSTM on the CPU compute gate by gate, instead of all in one operation that shows nothing."""
    if not any(isinstance(module, nn.LSTM) for module in model.modules()):
        yield
        return
    enabled, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)


@dataclass
class _Sums:
    """What was seen so far."""

    objective: Objective
    tallies: dict[tuple[Any, ...], Tally] = field(default_factory=dict[tuple[Any, ...], Tally])
    energies: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    depths: dict[str, int] = field(default_factory=dict[str, int])
    parallel: set[str] = field(default_factory=set[str])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    heard: dict[str, Tensor | None] = field(default_factory=dict[str, "Tensor | None"])
    sounds: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    gradient: Tensor | None = None
    loss: float = 0.0
    examples: int = 0

    def add(self, watch: Watch, loss: float, gradient: Tensor, index: int) -> None:
        """Add one batch."""
        examples = self.objective.batches[index].examples
        self.examples += examples
        self.loss += examples * loss
        gradient = gradient * examples
        self.gradient = gradient if self.gradient is None else self.gradient.add_(gradient)
        for number, seen in enumerate(watch.nonlinearities):
            self._tally(number, seen, examples)
        by_weight: dict[str, list[Product]] = {}
        for product in watch.products:
            self._listen(product)
            if product.length is not None:
                by_weight.setdefault(product.weight, []).append(product)
        for weight, products in by_weight.items():
            self._sum(weight, products, examples)

    def _tally(self, number: int, seen: Nonlinearity, examples: int) -> None:
        if seen.kind == "softmax" and (seen.hidden or seen.gate):  # attention is meant to choose
            return
        origin = seen.origin
        # One nonlinearity may be used many times, as in recurrent networks; then all count together.
        key = (origin.weight or number, origin.count, seen.op, seen.x.shape[-1:], seen.x.ndim)
        if key not in self.tallies:
            self.tallies[key] = Tally(seen, _module(origin.weight) if origin.weight else "input")
        self.tallies[key].add(seen, examples)

    def _listen(self, product: Product) -> None:
        weight, heard = product.weight, product.heard
        sounds = self.sounds.setdefault(weight, product.sounds)
        if sounds.shape == product.sounds.shape:
            self.sounds[weight] = sounds | product.sounds
        if product.source is None or self.sources.setdefault(weight, product.source) != product.source:
            heard = None
        before = self.heard.setdefault(weight, heard)
        if before is None or heard is None or before.shape != heard.shape:
            self.heard[weight] = None  # where one use cannot be told, all cannot
        else:
            self.heard[weight] = before | heard

    def _inputs(self) -> tuple[Inputs, ...]:
        slots = self.objective.parameters.slots
        zero = {slot.name for slot in slots if not bool(slot.here.any())}
        return tuple(
            Inputs(_module(weight), _module(source), heard.numel(), max(1.0 - _share(heard) / sounding, 0.0))
            for weight, source in self.sources.items()
            if weight not in zero
            and (heard := self.heard[weight]) is not None
            and (sounding := _share(self.sounds[source]) if source in self.sounds else 0.0) > 0.0
        )

    def _sum(self, weight: str, products: Sequence[Product], examples: int) -> None:
        # The loss is a mean over the batch, so that one example's gradient is `examples` times as long.
        lengths = torch.stack([cast("Tensor", product.length) for product in products]).tolist()
        scaled = [(examples * length) ** 2 for length in lengths]
        depths = [product.depth for product in products]
        if any(after <= before for before, after in pairwise(depths)):
            self.parallel.add(weight)
        before = self.energies.get(weight, [0.0] * len(scaled))
        if len(before) != len(scaled):  # sequences of other lengths: aligned at their ends
            length = min(len(before), len(scaled))
            before, scaled = before[-length:], scaled[-length:]
        self.energies[weight] = [a + b for a, b in zip(before, scaled, strict=True)]
        self.depths.setdefault(weight, depths[0])

    def record(self, blind: float | None) -> Layers:
        """Give what was seen."""
        loss = self.loss / self.examples
        return Layers(
            examples=self.examples,
            activations=tuple(tally.record(self.loss) for tally in self.tallies.values()),
            depths=tuple(self._depth(weight) for weight in self.energies),
            parameters=self._parameters(),
            loss=loss,
            blind=blind,
            inputs=self._inputs(),
        )

    def _depth(self, weight: str) -> Depth:
        energies = self.energies[weight]
        lengths = [math.sqrt(energy / self.examples) for energy in energies]
        sequential = len(lengths) > 1 and weight not in self.parallel
        return Depth(
            name=_module(weight),
            depth=self.depths[weight],
            calls=len(lengths),
            gradient=math.hypot(*lengths),
            steps=_some(lengths) if sequential else (),
        )

    def _parameters(self) -> tuple[ParameterScale, ...]:
        parameters = self.objective.parameters
        gradient = cast("Tensor", self.gradient) / self.examples
        pairs = zip(
            parameters.slots,
            parameters.pieces(self.objective.theta),
            parameters.pieces(gradient),
            strict=True,
        )
        return tuple(
            ParameterScale(slot.name, _rms(weight), _rms(slope), _copies(weight, slope))
            for slot, weight, slope in pairs
        )


def _rms(tensor: Tensor) -> float:
    return float(tensor.norm()) / math.sqrt(max(tensor.numel(), 1))


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _copies(weight: Tensor, gradient: Tensor) -> float:
    """Which share of the rows have another's weights and its gradient, which is not zero unless all of both are.

    Rows that started alike part only by rounding, which sums in another order; rows that did not are never so near.
    """
    if weight.ndim < 2 or weight.numel() == 0:  # noqa: PLR2004
        return 0.0
    if not weight.any() and not gradient.any():
        return 1.0
    weights, slopes = weight.flatten(1), gradient.flatten(1)
    left = slopes.any(1)
    copies = 0
    for _ in range(_FAMILIES):
        first = int(left.int().argmax())
        if not left[first]:
            break
        family = left & _near(weights, first) & _near(slopes, first)
        family[first] = True
        rows = int(family.sum())
        copies += rows if rows > 1 else 0
        left = left & ~family
    return copies / len(weights)


def _near(rows: Tensor, chosen: int) -> Tensor:
    own = rows[chosen]
    return (rows - own).norm(dim=1) <= _ALIKE * own.norm()


def _some(values: Sequence[float]) -> tuple[float, ...]:
    """Give at most `_STEPS` of the values, evenly chosen, first and last among them."""
    if len(values) <= _STEPS:
        return tuple(values)
    return tuple(values[round(k * (len(values) - 1) / (_STEPS - 1))] for k in range(_STEPS))


def _module(weight: str) -> str:
    """Name the module of a weight, also of one that is computed from others (weight norm and the like)."""
    plain = weight.partition(".parametrizations.")[0]
    return plain if plain != weight else weight.rpartition(".")[0] or weight


class _Blindfold:
    """Collects the middle of the model's outputs, and then lets the model answer with that alone.

    That is their mean, and the mean over batches of their medians: of outputs that have run wild the mean is nothing
    that a model which sees no inputs would answer.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._sums: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._counts: list[int] = []
        self._calls = 0
        self.possible = True

    @contextlib.contextmanager
    def collecting(self) -> Generator[None]:
        """Look at the outputs."""
        with self._hooked(self._collect):
            yield

    @contextlib.contextmanager
    def covering(self, sums: Sequence[Tensor]) -> Generator[None]:
        """Put means, or medians, in the outputs' places."""
        with self._hooked(partial(self._cover, sums)):
            yield

    @property
    def sums(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Over all examples, of their outputs and of the medians of their batches."""
        return self._sums

    @property
    def useful(self) -> bool:
        """Whether there is a mean that tells nothing of the single example."""
        return self.possible and bool(self._counts) and min(self._counts) >= _BLINDED

    @contextlib.contextmanager
    def _hooked(self, change: Callable[[Any], Any]) -> Generator[None]:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            return change(output) if module is self._model else None

        self._calls = 0
        handle = register_module_forward_hook(hook)
        try:
            with warnings.catch_warnings():
                # Of a compiled model PyTorch warns that the hook is called twice, which then is noticed here.
                warnings.filterwarnings("ignore", message="Using `torch.compile")
                yield
        finally:
            handle.remove()

    def _collect(self, output: Any) -> None:
        tensors = _floating(output)
        if self._calls or not tensors or any(tensor.ndim == 0 for tensor in tensors):
            # The loss calls it twice, or it computes its loss by itself.
            self.possible = False
        if not self.possible:
            return
        self._calls += 1
        means = [tensor.detach().sum(0) for tensor in tensors]
        medians = [len(tensor) * tensor.detach().float().median(0).values.to(tensor) for tensor in tensors]
        if not self._counts:
            self._sums, self._counts = (means, medians), [len(tensor) for tensor in tensors]
        elif [tensor.shape for tensor in means] == [tensor.shape for tensor in self._sums[0]]:
            self._sums = _added(self._sums[0], means), _added(self._sums[1], medians)
            self._counts = [before + len(now) for before, now in zip(self._counts, tensors, strict=True)]
        else:
            self.possible = False

    def _cover(self, sums: Sequence[Tensor], output: Any) -> Any:
        leaves, structure = tree_flatten(output)
        means = iter(total / count for total, count in zip(sums, self._counts, strict=True))
        covered = [next(means).expand_as(leaf) if _is_floating(leaf) else leaf for leaf in leaves]
        return tree_unflatten(covered, structure)


def _added(before: Sequence[Tensor], now: Sequence[Tensor]) -> list[Tensor]:
    return [one + other for one, other in zip(before, now, strict=True)]


def _floating(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if _is_floating(leaf)]


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _blind(objective: Objective, indices: Sequence[int], blindfold: _Blindfold) -> float | None:
    if not blindfold.useful:
        return None
    losses = [_covered(objective, indices, partial(blindfold.covering, sums)) for sums in blindfold.sums]
    return min((loss for loss in losses if math.isfinite(loss)), default=None)


def _covered(
    objective: Objective,
    indices: Sequence[int],
    covering: Callable[[], contextlib.AbstractContextManager[None]],
) -> float:
    total, examples = 0.0, 0
    for index in indices:
        batch = objective.batches[index]
        objective.ledger.spend(VALUE, batch.examples)
        try:
            with objective.replay.session(), covering():
                loss = objective.replay.loss(batch, objective.replay.leaves(objective.theta))
        except (UnstuckError, RuntimeError):  # as of a loss that needs to differentiate the output
            return math.nan
        total += batch.examples * finite(loss)
        examples += batch.examples
    return total / examples
