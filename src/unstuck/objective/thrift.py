"""Which blocks of a model are computed again, where the graph of one batch does not fit the memory allowed."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks

from unstuck.errors import TrainingError
from unstuck.objective.recomputed import Recomputed, hung, parted

# A graph that is to be differentiated again holds so many times what one for a gradient does: 1.7 to 2.3 as measured
# on a perceptron, a convolutional network and a transformer.
_TWICE = 2.5

# A block is cut up while it holds more than this share of all that is held, and where it cannot be cut up it may hold
# no more than the other: else nothing is saved. What goes in and comes out is kept; it must hold more than that.
_LARGEST, _TOO_LARGE, _WORTH = 1.0 / 8.0, 0.5, 1.25

# Of the memory that may be used: there are the sample, Lanczos vectors and kept graphs as well, of which none is kept
# where a single one takes that much.
_ONE_GRAPH = 0.65

_allowed: ContextVar[float] = ContextVar("allowed", default=float("inf"))


@contextmanager
def allowing(memory: float) -> Generator[None]:
    """Let so many bytes be used inside; where the graph of one batch would not fit, blocks are computed again."""
    token = _allowed.set(_ONE_GRAPH * memory)
    try:
        yield
    finally:
        _allowed.reset(token)


class Thrift:
    """Weighs the graph of a batch once, and lets blocks be computed again where it is too heavy.

    Args:
        model: Whose blocks.
        owned: Random generators that it may draw from.

    Attributes:
        gradients: Whether blocks are computed again for a gradient, too.
        products: Whether they are for products with the Hessian.
        narrow: Whether the batch saw lower precision than the parameters', where they are.
    """

    def __init__(self, model: nn.Module, owned: Sequence[Any]) -> None:
        self._model, self._owned = model, owned
        self._room = _allowed.get()
        self._hanging: Sequence[Recomputed | _Probe] = ()
        self.gradients = self.products = self.narrow = False

    def hang(self, *, twice: bool) -> None:
        """Let blocks be computed again in the evaluation that comes, if it is one that has to."""
        if self.gradients or (twice and self.products):
            for each in self._hanging:
                each.hang()

    def weighed(self, evaluate: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Tensor:
        """Evaluate the loss, and learn whether its graph fits."""
        self.gradients = self.products = False
        if self._room == float("inf"):
            return evaluate()
        scale = _Scale(leaves, limit=self._room)
        loss = None
        try:
            with saved_tensors_hooks(scale.pack, _same):
                loss = evaluate()
        except _FullError:
            pass
        except (RuntimeError, TrainingError):  # functions of `torch.func` let nobody see what they save
            return evaluate()
        if loss is not None and _TWICE * scale.nbytes <= self._room:
            return loss
        self._choose(evaluate, leaves)
        self.products = bool(self._hanging)
        self.gradients = self.products and loss is None
        return evaluate() if loss is None else loss

    def _choose(self, evaluate: Callable[[], Tensor], leaves: Sequence[Tensor]) -> None:
        counter = _Counter(leaves)
        probes = {module: _Probe(module, counter) for module in self._model.modules()}
        self._hanging, self.gradients = tuple(probes.values()), True
        try:
            with saved_tensors_hooks(counter.pack, _gone):
                loss = evaluate()
            self.narrow = counter.narrow
            self._hanging = [Recomputed(module, self._owned) for module in _chosen(self._model, probes, loss)]
            value = float(loss.detach())
            del loss
            probes.clear()
            # Once on trial: what cannot be computed again for a reason of its own is then computed as it was.
            again = evaluate()
            torch.autograd.grad(again, leaves, allow_unused=True)
            if float(again.detach()) != value:
                self._hanging = ()
        except (RuntimeError, TrainingError):
            self._hanging = ()
        finally:
            self.gradients = False


class _FullError(BaseException):
    """More is saved than is allowed; no `Exception`, which a user's code may catch."""


class _Scale:
    """Weighs what is saved, each memory once."""

    def __init__(self, leaves: Sequence[Tensor], *, limit: float) -> None:
        self._own = _storages(leaves)
        self._seen: dict[int, int] = {}
        self._limit = limit
        self.nbytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (place := storage.data_ptr()) not in self._own and place not in self._seen:
            self._seen[place] = storage.nbytes()
            self.nbytes += storage.nbytes()
            if self.nbytes > self._limit:
                raise _FullError
        return tensor.detach()


class _Counter:
    """Counts what would be saved, and lets it go."""

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self._own = _storages(leaves)
        self._usual = min(leaf.dtype.itemsize for leaf in leaves)
        self.nbytes, self.narrow = 0, False

    def pack(self, tensor: Tensor) -> None:
        if tensor.is_floating_point():
            self.narrow = self.narrow or tensor.dtype.itemsize < self._usual
        if tensor.untyped_storage().data_ptr() not in self._own:
            self.nbytes += tensor.nbytes


def _storages(leaves: Sequence[Tensor]) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in leaves}


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _gone(_: None) -> Tensor:
    msg = "the loss differentiates by itself"
    raise RuntimeError(msg)


@dataclass
class _Seen:
    """One call of a module: where the graph went in and out, and how it is in between.

    Attributes:
        began: The number of the first node that may be its own.
        stops: What went in, parameters among it.
        ends: What came out.
        changed: Whether it wrote on what went in.
        nbytes: Saved for it.
        border: Bytes that went in and came out.
    """

    began: int
    stops: set[GradientEdge]
    ends: set[GradientEdge]
    changed: bool
    nbytes: int
    border: int
    nodes: set[Any] = field(default_factory=set[Any])

    def is_closed(self) -> bool:
        """Whether all that it depends on with a gradient went in; remembers the nodes on the way."""
        ahead, done = list(self.ends), set(self.stops)
        while ahead:
            edge = ahead.pop()
            if edge in done:
                continue
            done.add(edge)
            if hasattr(edge.node, "variable") or _number(edge.node) < self.began:
                return False
            self.nodes.add(edge.node)
            ahead += _before(edge.node)
        return True


class _Probe:
    """Watches the calls of a module during an evaluation."""

    def __init__(self, module: nn.Module, counter: _Counter) -> None:
        self._module, self._counter = module, counter
        self.calls: list[_Seen] = []

    def hang(self) -> None:
        forward, own = self._module.forward, vars(self._module)

        def call(*args: Any, **kwargs: Any) -> Any:
            inputs = parted((args, kwargs))[1]
            parameters = [tensor for at, name in hung(self._module) if (tensor := at[name]) is not None]
            moving = [*inputs, *(tensor for tensor in parameters if tensor.requires_grad)]
            versions = _versions(inputs)
            before, began = self._counter.nbytes, _present_number()
            stops = set(map(get_gradient_edge, moving))
            found = forward(*args, **kwargs)
            made = parted(found)[1]
            self.calls.append(
                _Seen(
                    began,
                    stops,
                    set(map(get_gradient_edge, made)),
                    versions != _versions(inputs),
                    self._counter.nbytes - before,
                    sum(tensor.nbytes for tensor in (*inputs, *made)),
                )
            )
            return found

        own["forward"] = call

    @property
    def nbytes(self) -> int:
        """Saved in all calls."""
        return sum(seen.nbytes for seen in self.calls)

    def is_worth_it(self) -> bool:
        """Whether it would save memory, and may be done."""
        border = sum(seen.border for seen in self.calls)
        light = self.nbytes < _WORTH * border or not all(seen.ends for seen in self.calls)
        return not light and all(not seen.changed and seen.is_closed() for seen in self.calls)


def _chosen(model: nn.Module, probes: dict[nn.Module, _Probe], loss: Tensor) -> list[nn.Module]:
    """Choose blocks that hold little of all, but more than goes in and comes out, and of which nothing leaks."""
    found = _light_blocks(model, probes, probes[model].nbytes)
    while leaking := _leaking(loss, {module: probes[module] for module in found}):
        found = [module for module in found if module not in leaking]
    return found


def _light_blocks(module: nn.Module, probes: dict[nn.Module, _Probe], whole: int) -> list[nn.Module]:
    probe = probes[module]
    if 0 < probe.nbytes <= _LARGEST * whole and probe.is_worth_it():
        return [module]
    below = {each: None for child in module.children() for each in _light_blocks(child, probes, whole)}
    if not below and 0 < probe.nbytes <= _TOO_LARGE * whole and probe.is_worth_it():
        return [module]
    return list(below)


def _leaking(loss: Tensor, probes: dict[nn.Module, _Probe]) -> set[nn.Module]:
    """Those whose insides the loss depends on by another way than through what comes out."""
    calls = [(module, seen) for module, probe in probes.items() for seen in probe.calls]
    inside = {node: module for module, seen in calls for node in seen.nodes}
    into = {edge: seen.stops for _, seen in calls for edge in seen.ends}
    found: set[nn.Module] = set()
    ahead, done = [get_gradient_edge(loss)], set[GradientEdge]()
    while ahead:
        edge = ahead.pop()
        if edge in done:
            continue
        done.add(edge)
        if edge in into:
            ahead += into[edge]
            continue
        if edge.node in inside:
            found.add(inside[edge.node])
        ahead += _before(edge.node)
    return found


def _before(node: Any) -> Iterable[GradientEdge]:
    pairs = cast("Sequence[tuple[Any, int]]", node.next_functions)
    return [GradientEdge(before, number) for before, number in pairs if before is not None]


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor._version for tensor in tensors]  # noqa: SLF001  # there is no other way to ask


def _number(node: Any) -> int:
    return int(node._sequence_nr())  # noqa: SLF001  # PyTorch's own tools ask for it so


def _present_number() -> int:
    return _number(torch.zeros((), requires_grad=True).clone().grad_fn)
