"""Blocks of a model whose graphs are not kept but computed again, for a gradient and for a product with the Hessian.

PyTorch's checkpoints save memory for a gradient. In a graph that is to be differentiated again all that was computed
again stays, so that nothing is saved there. Here the gradient of a block is a function of its own, which keeps what
goes in alone, too: while products are made, one block at a time has a graph.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from unstuck.objective.borrowing import Borrowed
from unstuck.objective.casts import autocasts
from unstuck.objective.generators import generators_kept, remembered
from unstuck.objective.reach import within
from unstuck.objective.sampling import mapped

Tensors = tuple[Tensor, ...]
Places = list[tuple[dict[str, Tensor | None], str]]


class Recomputed:
    """A module of which every call is computed again where it is differentiated.

    What it holds besides parameters, such as counters and running statistics, and all random generators are then as
    they were at the call, and afterwards as they were before.

    Args:
        module: What it does may depend on what goes in, on its parameters and on its own state, on nothing else that
            has a gradient; see `Plan`.
        owned: Random generators that it may draw from, besides the global ones.
    """

    def __init__(self, module: nn.Module, owned: Sequence[Any]) -> None:
        self._module, self._owned = module, owned

    def hang(self) -> None:
        """Take the place of the module's `forward`; only while its attributes are remembered in a `Borrowed`."""
        forward, own = self._module.forward, vars(self._module)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            given, moving = parted((args, kwargs))
            places = [place for place in hung(self._module) if _moves(place)]
            ways = _Call(self._module, forward, given, places, self._owned)
            found = _Block.apply(ways, *moving, *(at[name] for at, name in places))
            return joined(ways.shape, found)

        own["forward"] = call


@dataclass(frozen=True)
class _Slot:
    """Stands for a tensor among what goes into a block, or comes out."""

    number: int


def parted(content: Any, *, moves: Callable[[Tensor], bool] = lambda tensor: tensor.requires_grad) -> Any:
    """Take the tensors that have a gradient out of a content; give what is left, and those."""
    taken: list[Tensor] = []

    def leaf(item: Any) -> Any:
        if isinstance(item, Tensor) and moves(item):
            taken.append(item)
            return _Slot(len(taken) - 1)
        return item

    return mapped(content, leaf, objects=False), taken


def joined(content: Any, tensors: Sequence[Tensor]) -> Any:
    """Put tensors back where they were taken out."""
    return mapped(
        content, lambda item: tensors[item.number] if isinstance(item, _Slot) else item, objects=False
    )


def hung(module: nn.Module) -> Places:
    """Where a module's parameters hang, each once."""
    places: dict[int, tuple[dict[str, Tensor | None], str]] = {}
    for each in module.modules():
        own = vars(each)["_parameters"]
        for name, tensor in own.items():
            if tensor is not None:
                places.setdefault(id(tensor), (own, name))
    return list(places.values())


def _moves(place: tuple[dict[str, Tensor | None], str]) -> bool:
    tensor = place[0][place[1]]
    return tensor is not None and tensor.requires_grad


class _Call:
    """One call of a block, that can be made again."""

    def __init__(
        self, module: nn.Module, forward: Callable[..., Any], given: Any, places: Places, owned: Sequence[Any]
    ) -> None:
        self._module, self._forward, self._given, self._owned = module, forward, given, owned
        self._everywhere = [self._all_places(at[name]) for at, name in places]
        self.shape: Any = None
        others: list[Any] = []
        mapped(given, others.append, objects=False)
        passed = within(*(each for each in others if _is_object(each)), installed=True)
        self._things = within(module), passed
        self._casts = _casts()
        self._remember()

    def _all_places(self, tensor: Tensor | None) -> Places:
        own = [vars(each)["_parameters"] for each in self._module.modules()]
        return [(place, name) for place in own for name, other in place.items() if other is tensor]

    def _remember(self) -> None:
        self._before, self._drawn = _State(*self._things), remembered(self._owned)

    def first(self, tensors: Tensors) -> Tensors:
        """Make it for the first time."""
        given, _ = _without_parameters(tensors, self._everywhere)
        self.shape, made = parted(self._forward_of(given), moves=lambda tensor: tensor.is_floating_point())
        return tuple(made)

    def again(self, tensors: Tensors) -> Tensors:
        """Make it again, with these tensors in the places of those that went in."""
        given, parameters = _without_parameters(tensors, self._everywhere)
        now = _State(*self._things)
        with ExitStack() as stack:
            stack.callback(now.put_back)
            stack.enter_context(generators_kept(self._owned))
            for cast in self._casts():
                stack.enter_context(cast)
            self._before.put_back()
            self._drawn()
            for places, tensor in zip(self._everywhere, parameters, strict=True):
                for at, name in places:
                    at[name] = tensor
            return tuple(parted(self._forward_of(given), moves=lambda tensor: tensor.is_floating_point())[1])

    def _forward_of(self, given: Tensors) -> Any:
        args, kwargs = joined(self._given, given)
        return self._forward(*args, **kwargs)


def _without_parameters(tensors: Tensors, parameters: Sequence[Any]) -> tuple[Tensors, Tensors]:
    count = len(tensors) - len(parameters)
    return tensors[:count], tensors[count:]


def _is_object(item: Any) -> bool:
    return not isinstance(item, Tensor | _Slot | str | int | float | None)


class _State:
    """What a block's things hold, and what was passed to it does, and how to put it back.

    Tensors that were passed in objects, as in a cache of keys and values, are not copied: they are what makes
    graphs heavy.
    """

    def __init__(self, own: Sequence[Any], passed: Sequence[Any]) -> None:
        self._borrowed = Borrowed(own), Borrowed(passed, tensors=False)
        modules = [thing for thing in own if isinstance(thing, nn.Module)]
        self._buffers = [
            (buffer, buffer.detach().clone())
            for module in modules
            for buffer in vars(module)["_buffers"].values()
            if buffer is not None
        ]

    def put_back(self) -> None:
        for borrowed in self._borrowed:
            borrowed.restore()
        with torch.no_grad():
            for buffer, before in self._buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _casts() -> Callable[[], list[Any]]:
    """Give what turns on automatic casting as it is on now."""
    held = autocasts()
    return lambda: [
        torch.autocast(kind, dtype, enabled, cache_enabled=False) for kind, dtype, enabled in held
    ]


@contextmanager
def _unseen() -> Generator[None]:
    """Let nobody who counts saved tensors see those that are gone in a moment."""
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor):
        yield


class _Block(Function):
    """A call of a block, which keeps what went in."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Tensors:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        return call.first(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        return None, *_Gradient.apply(ctx.call, len(grads), *grads, *ctx.saved_tensors)


class _Gradient(Function):
    """The gradient of a call, which keeps what went into that, and by what it was multiplied."""

    @staticmethod
    def forward(ctx: Any, call: _Call, count: int, *tensors: Tensor) -> Tensors:
        ctx.call, ctx.count = call, count
        ctx.save_for_backward(*tensors)
        with torch.enable_grad(), _unseen():
            leaves = _leaves(tensors[count:])
            return _differentiated(call.again(leaves), leaves, tensors[:count], twice=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        if torch.is_grad_enabled():
            msg = "blocks that are computed again have no third derivative"
            raise RuntimeError(msg)
        with torch.enable_grad(), _unseen():
            leaves = _leaves(ctx.saved_tensors)
            cotangents, moving = leaves[: ctx.count], leaves[ctx.count :]
            gradients = _differentiated(ctx.call.again(moving), moving, cotangents, twice=True)
            return None, None, *_differentiated(gradients, leaves, grads, twice=False)


def _leaves(tensors: Sequence[Tensor]) -> Tensors:
    return tuple(tensor.detach().requires_grad_() for tensor in tensors)


def _differentiated(of: Tensors, by: Tensors, cotangents: Sequence[Tensor], *, twice: bool) -> Tensors:
    """Differentiate what depends on anything; what does not adds nothing."""
    pairs = [(each, along) for each, along in zip(of, cotangents, strict=True) if each.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(each) for each in by)
    return torch.autograd.grad(
        [each for each, _ in pairs],
        by,
        [along for _, along in pairs],
        create_graph=twice,
        allow_unused=True,
        materialize_grads=True,
    )
