"""What the loss does with the model's last outputs: recorded call by call, and evaluated again with others."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unstuck.errors import MeasurementError
from unstuck.objective import Batch, Objective
from unstuck.objective.ledger import VALUE
from unstuck.objective.sampling import attributes
from unstuck.training import Training


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor among the arguments of a recorded call; `node` is its number."""

    node: int


@dataclass(frozen=True)
class Node:
    """A tensor at one moment: writing in place makes a new node of it.

    Attributes:
        tensor: Its value may have been overwritten since.
        call: Index of the call that made it, or None where it came from elsewhere.
        position: Which of the call's results it is, None where there is but one.
        learnt: Whether the parameters have a part in it.
        data: Whether the batch has a part in it.
    """

    tensor: Tensor
    call: int | None
    position: int | None
    learnt: bool
    data: bool


@dataclass(frozen=True)
class Call:
    """A recorded call of a torch function with its arguments, tensors among them replaced by `Ref`."""

    function: Callable[..., Any]
    arguments: Any
    keywords: Any
    uses: tuple[int, ...]
    repeatable: bool

    @property
    def name(self) -> str:
        """The function's name, without the underscore of its form that writes in place."""
        return str(getattr(self.function, "__name__", "")).strip("_")


class Tape(TorchFunctionMode):
    """Records every torch function called while it is active; `batch` is what counts as data."""

    def __init__(self, batch: Any) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.nodes: list[Node] = []
        self._numbers: dict[int, int] = {}
        for tensor in tensors(batch):
            self._add(Node(tensor, None, None, tensor.requires_grad, data=True))

    def __torch_function__(self, func: Any, types: Iterable[Any], args: Any = (), kwargs: Any = None) -> Any:
        arguments, keywords = self._refer(args), self._refer(kwargs or {})
        uses = tuple(ref.node for ref in _refs((arguments, keywords)))
        result = func(*args, **(kwargs or {}))
        made = list(tensors(result))
        known = isinstance(result, Tensor | tuple | list)
        if getattr(func, "__name__", "") == "__setitem__" and isinstance(args[0], Tensor):
            made, known = [args[0]], False
        if made and uses:
            data = any(self.nodes[number].data for number in uses)
            self.calls.append(Call(func, arguments, keywords, uses, known and not _random(func)))
            for position, tensor in enumerate(made):
                where = None if isinstance(result, Tensor) else position
                learnt = tensor.requires_grad or self._decided(tensor, uses)
                self._add(Node(tensor, len(self.calls) - 1, where, learnt, data))
        return result

    def number(self, tensor: Tensor) -> int:
        """Give the number of the node that a tensor is now, making one for a tensor never met."""
        known = self._numbers.get(id(tensor))
        # What was made out of sight, as by a compiled model, was most likely made of data.
        return (
            self._add(Node(tensor, None, None, tensor.requires_grad, not tensor.is_leaf))
            if known is None
            else known
        )

    def used(self, tensor: Tensor) -> bool:
        """Whether a tensor was an argument of any call."""
        number = self._numbers.get(id(tensor))
        return number is not None and any(number in call.uses for call in self.calls)

    def _add(self, node: Node) -> int:
        # The node holds the tensor, so that its identity is not used again.
        self.nodes.append(node)
        self._numbers[id(node.tensor)] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def _decided(self, tensor: Tensor, uses: Sequence[int]) -> bool:
        """Whether it is what a comparison of learnt numbers says, or made of that: autograd does not tell."""
        used = [self.nodes[number] for number in uses]
        if tensor.dtype == torch.bool:
            return any(node.learnt for node in used)
        return any(node.learnt and not node.tensor.requires_grad for node in used)

    def _refer(self, value: Any) -> Any:
        return mapped(value, lambda item: Ref(self.number(item)) if isinstance(item, Tensor) else item)


@dataclass(frozen=True)
class Trace:
    """One evaluation of the loss on one batch, as recorded.

    Attributes:
        loss: Its result.
        content: The batch as the loss got it.
    """

    tape: Tape
    loss: Tensor
    content: Any


def trace(training: Training, objective: Objective, batch: Batch) -> Trace:
    """Evaluate one batch's loss at the point and record how it comes about; costs half a gradient of the batch.

    Raises:
        TrainingError: The user's loss failed.
    """
    found: list[Trace] = []

    def watched(model: Any, content: Any) -> Tensor:
        with Tape(content) as tape:
            loss = training.loss(model, content)
        found.append(Trace(tape, loss, content))
        return loss

    replay = copy.copy(objective.replay)
    replay.training = dataclasses.replace(training, loss=watched)
    objective.ledger.spend(VALUE, batch.examples)
    with replay.session():
        replay.loss(batch, replay.leaves(objective.theta))
    return found[0]


class Tail:
    """The end of a recorded loss, as a function of some of the tensors that it was computed from.

    Attributes:
        starts: Numbers of the nodes it begins at.
        calls: Indices of the calls it consists of, in the order they were made.
    """

    def __init__(self, tape: Tape, end: int, starts: Sequence[int], calls: Sequence[int]) -> None:
        self.tape, self.starts, self.calls = tape, tuple(starts), tuple(sorted(calls))
        self._end = end
        inside = set(self.calls)
        self._results: dict[int, list[int]] = {index: [] for index in self.calls}
        for number, node in enumerate(tape.nodes):
            if node.call is not None and node.call in inside:
                self._results[node.call].append(number)

    def present(self) -> list[Tensor]:
        """Give copies of the tensors it begins at, as they were."""
        tensors = [self.tape.nodes[number].tensor.detach() for number in self.starts]
        return [t.to(torch.promote_types(t.dtype, torch.float32), copy=True) for t in tensors]

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """Evaluate the loss with other values in the places of `starts`."""
        return self.at(values, (self._end,))[0]

    def at(self, values: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor]:
        """Evaluate the nodes `wanted` on the way to the loss."""
        known: dict[int, Tensor] = dict(zip(self.starts, values, strict=True))
        for index in self.calls:
            call = self.tape.calls[index]

            def value(item: Any) -> Any:
                if isinstance(item, Ref):
                    return known.get(item.node, self.tape.nodes[item.node].tensor)
                return item

            if known.keys() & set(call.uses):
                arguments, keywords = mapped(call.arguments, value), mapped(call.keywords, value)
                if _writes(call):
                    arguments = (arguments[0].clone(), *arguments[1:])
                result = call.function(*arguments, **keywords)
                for number in self._results[index]:
                    position = self.tape.nodes[number].position
                    made = result if position is None else result[position]
                    if number not in self.starts:
                        known[number] = made
        return [known[number] for number in wanted]

    def since(self, starts: Sequence[int]) -> "Tail":
        """Give the part of it that begins later, at `starts`."""
        needed, ahead = set[int](), [self._end]
        while ahead:
            node = self.tape.nodes[number := ahead.pop()]
            if number in starts or node.call not in self.calls or node.call in needed:
                continue
            needed.add(node.call)
            ahead.extend(self.tape.calls[node.call].uses)
        return Tail(self.tape, self._end, starts, list(needed))

    def begun(self, starts: Sequence[int], calls: Iterable[int]) -> "Tail":
        """Give one that begins earlier, at `starts`, from which `calls` lead to where it begins now."""
        return Tail(self.tape, self._end, starts, [*calls, *self.calls])


def tail(traced: Trace) -> Tail:
    """Walk back from the loss to where parameters come in: there the model's last outputs are.

    The way goes through calls with one argument that was learnt from data, or with several that are made of the
    same one without parameters, as in losses that are written out; so that what a softmax, a squeeze or a
    criterion does is followed, and a layer, a residual or a similarity of two embeddings is not.
    Parameters may join a scalar, as a penalty does; there they count as constants.

    Raises:
        MeasurementError: There is nothing between the parameters and the loss.
    """
    tape = traced.tape
    end, roots = tape.number(traced.loss), _roots(tape)
    calls, starts, ahead = set[int](), set[int](), [end]
    while ahead:
        number = ahead.pop()
        call = tape.nodes[number].call
        if call is None or _stops(tape, number, tape.calls[call], roots):
            starts.add(number)
        elif call not in calls:
            calls.add(call)
            ahead.extend(use for use in set(tape.calls[call].uses) if _variable(tape.nodes[use]))
    if end in starts or not starts:
        msg = "nothing can be seen between the model's parameters and the loss"
        raise MeasurementError(msg)
    return Tail(tape, end, sorted(starts), list(calls))


def sources(tape: Tape, given: Mapping[int, int]) -> list[frozenset[int]]:
    """Tell of each node which of the tensors `given`, places by `id`, it was made of."""
    found: list[frozenset[int]] = []
    for node in tape.nodes:
        if node.call is None:
            found.append(frozenset({given[id(node.tensor)]} if id(node.tensor) in given else ()))
        else:
            found.append(frozenset[int]().union(*(found[use] for use in tape.calls[node.call].uses)))
    return found


def constants(tape: Tape, call: Call) -> list[Tensor]:
    """Those arguments of a call that were not learnt, such as targets; numbers do not count."""
    nodes = [tape.nodes[number] for number in call.uses]
    return [node.tensor for node in nodes if not node.learnt and node.tensor.ndim]


def reorders(index: Tensor) -> bool:
    """Whether an index is each place once: it sorts, as by time in a Cox loss, and is no target."""
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        return False
    return torch.equal(index.sort().values, torch.arange(len(index)).to(index))


def _variable(node: Node) -> bool:
    return node.learnt and node.data


def _roots(tape: Tape) -> list[int]:
    """Where the way back from each node stops: at itself, if it is to be an output of the model."""
    roots: list[int] = []
    for number, node in enumerate(tape.nodes):
        made_of = set[int]()
        if node.call is not None and not _layer(tape, node, call := tape.calls[node.call]):
            made_of = {roots[use] for use in call.uses if _variable(tape.nodes[use])}
        roots.append(made_of.pop() if len(made_of) == 1 else number)
    return roots


def _stops(tape: Tape, number: int, call: Call, roots: Sequence[int]) -> bool:
    """Whether the way back ends at what a call gave; the terms of a scalar go on, each its own way."""
    node = tape.nodes[number]
    return roots[number] == number and (node.tensor.ndim > 0 or _layer(tape, node, call))


def _layer(tape: Tape, node: Node, call: Call) -> bool:
    """Whether a call belongs to the model: it is random, takes nothing learnt from data, or parameters, or grows."""
    used = [tape.nodes[use] for use in set(call.uses)]
    sizes = [each.tensor.numel() for each in used if _variable(each)]
    if not call.repeatable or not sizes:
        return True
    if node.tensor.ndim == 0:
        return False
    # What grows, as by interpolation, has fewer outputs than targets: that is the architecture's choice.
    grows = node.tensor.numel() > min(sizes) and not constants(tape, call)
    return grows or any(each.learnt and not each.data for each in used)


def _random(function: Any) -> bool:
    name = str(getattr(function, "__name__", ""))
    return any(word in name for word in ("dropout", "gumbel", "rrelu", "bernoulli", "fractional"))


def _writes(call: Call) -> bool:
    name = str(getattr(call.function, "__name__", ""))
    return (name.endswith("_") and not name.endswith("__")) or bool(call.keywords.get("inplace"))


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _refs(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _refs(item)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to every item of nested tuples, lists and dictionaries."""
    if type(value) in (tuple, list):
        return type(value)(mapped(item, function) for item in value)
    if type(value) is dict:
        return {key: mapped(item, function) for key, item in value.items()}
    return function(value)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings, and in objects such as dataclasses."""
    if isinstance(value, Tensor):
        yield value
        return
    held = value if isinstance(value, Mapping) else attributes(value)
    items = value if isinstance(value, tuple | list) else held.values() if held is not None else ()
    for item in items:
        yield from tensors(item)
