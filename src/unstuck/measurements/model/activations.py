"""One evaluation of the loss, watched operation by operation: nonlinearities, and where weights come in."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

# Operations that multiply with weights: a layer, whatever module or function it was called by.
_WEIGHTED = frozenset(
    ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "linear", "convolution", "embedding", "_embedding_bag")
)

# Those of them of which the features of a layer's input lie along a known axis, before the weight.
_LAYERS = frozenset(("mm", "addmm", "linear", "convolution"))

# Nonlinearities by the shape of their slope.
_RECTIFIERS = frozenset(("relu", "threshold", "elu", "gelu", "silu", "softplus", "hardswish", "mish"))
_BOUNDED = frozenset(("sigmoid", "tanh", "hardsigmoid"))
_SOFTMAX = frozenset(("_softmax", "_safe_softmax"))
_CLAMPS = frozenset(("clamp", "clamp_min", "hardtanh"))

# These hand on what they are given, in another shape.
_RESHAPING = (
    "view",
    "_unsafe_view",
    "reshape",
    "t",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "expand",
)
_TAKING = (
    "select",
    "slice",
    "unbind",
    "split",
    "unsafe_split",
    "chunk",
    "clone",
    "detach",
    "alias",
    "_to_copy",
)
_VIEWS = frozenset((*_RESHAPING, *_TAKING))


@dataclass(frozen=True)
class Origin:
    """Where a tensor comes from.

    Attributes:
        weight: Name of the last weight it was multiplied with, or of the parameter that it is made of.
        parametric: It is made of parameters alone.
        depth: How many weights lie behind it.
        count: How many nonlinearities lie between that weight and it.
        channels: Of the convolution that made it.
        pending: Indices of the nonlinearities that lie between that weight and it.
        fresh: Index of the nonlinearity that it is the very output of.
    """

    weight: str | None = None
    parametric: bool = False
    depth: int = 0
    count: int = 0
    channels: int | None = None
    pending: frozenset[int] = frozenset()
    fresh: int | None = None


@dataclass
class Nonlinearity:
    """One call of a nonlinearity.

    Attributes:
        origin: Of its input.
        op: Name of the operation.
        apply: The same function, to be evaluated again.
        x: The input.
        bounds: Between which values it is not flat, where these are arguments of it.
        axis: Along which a softmax goes.
        gradient: That arrived at the output.
        hidden: Weights come after it.
        gate: It multiplies other activations.
    """

    origin: Origin
    op: str
    apply: Callable[[Tensor], Tensor]
    x: Tensor
    bounds: tuple[float, float] = (-math.inf, math.inf)
    axis: int = -1
    gradient: Tensor | None = None
    hidden: bool = False
    gate: bool = False

    @property
    def kind(self) -> str:
        """Give "rectifier", "bounded", "leaky" or "softmax"."""
        if self.op in _SOFTMAX:
            return "softmax"
        if self.op in _CLAMPS:
            return "rectifier" if self.bounds[0] == 0.0 else "bounded"
        if self.op in _RECTIFIERS:
            return "rectifier"
        return "bounded" if self.op in _BOUNDED else "leaky"


@dataclass
class Product:
    """One product with a weight.

    Attributes:
        weight: Name of the weight.
        depth: How many weights lie behind the result.
        source: Name of the last weight that what is multiplied was made with, if any.
        heard: Which features of what is multiplied are not 0 everywhere, where it is known along which axis
            features lie.
        sounds: Which features of the result are not 0 everywhere.
        length: Of the gradient that arrived at the result.
    """

    weight: str
    depth: int
    source: str | None
    heard: Tensor | None
    sounds: Tensor
    length: Tensor | None = None


class Watch(TorchDispatchMode):
    """Notes every nonlinearity and every product with a weight while the loss is evaluated.

    It sees what PyTorch computes and not which modules are called, so functional calls are seen alike. The
    gradients come in when the loss is differentiated, after the watch.

    Args:
        parameters: By name, the tensors that the model computes with.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.nonlinearities: list[Nonlinearity] = []
        self.products: list[Product] = []
        self._origins: Any = WeakTensorKeyDictionary()
        self._unhooked: list[tuple[Tensor, Callable[[Tensor], None]]] = []
        for name, tensor in parameters.items():
            self._origins[tensor] = Origin(name, parametric=True)

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._hook()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._hook()
        kwargs = kwargs or {}
        name: str = func.overloadpacket.__name__
        place = name.endswith("_") and not name.endswith("__")
        op = name.removesuffix("_") if place else name
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        given = [(tensor, origin) for tensor in tensors if (origin := self._origin(tensor)) is not None]
        bounds = _bounds(op, args, kwargs)
        x = (args[0].clone() if place else args[0]) if bounds else None
        outputs = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        origin = self._weighted(op, given, results) or _carried(op, given)
        if op == "mul":
            self._mark_gates(tensors)
        if x is not None and bounds and x.is_floating_point():
            axis = args[1] if op in _SOFTMAX else -1
            seen = Nonlinearity(
                origin or Origin(), op, _again(func, op, args, kwargs), x.detach(), bounds, axis
            )
            origin = self._nonlinear(seen, results[0])
        if origin is not None:
            for result in results:
                self._origins[result] = origin
        return outputs

    def _hook(self) -> None:
        """Listen to the gradients of what was made last; only now has autograd heard of it, and not too late."""
        waiting, self._unhooked = self._unhooked, []
        for tensor, listen in waiting:
            if tensor.requires_grad:
                tensor.register_hook(listen)

    def _origin(self, tensor: Tensor) -> Origin | None:
        found = self._origins.get(tensor)
        if found is None and tensor._base is not None:  # noqa: SLF001
            found = self._origins.get(tensor._base)  # noqa: SLF001
        return cast("Origin | None", found)

    def _weighted(
        self, op: str, given: Sequence[tuple[Tensor, Origin]], results: Sequence[Tensor]
    ) -> Origin | None:
        weights = [(tensor, origin) for tensor, origin in given if origin.parametric and tensor.ndim > 1]
        if op not in _WEIGHTED or not weights:
            return None
        weight = weights[-1][1].weight or ""
        data = [origin for _, origin in given if not origin.parametric]
        for origin in data:
            for index in origin.pending:
                self.nonlinearities[index].hidden = True
        deepest = max(data, key=lambda origin: origin.depth, default=Origin())
        source, heard = deepest.weight, _features(op, given)
        product = Product(weight, 1 + deepest.depth, source, heard, _audible(results[0], op))
        self.products.append(product)

        def listen(gradient: Tensor) -> None:
            product.length = _length(gradient.detach())

        self._unhooked.append((results[0], listen))
        channels = results[0].shape[1] if op == "convolution" else None
        return Origin(weight, depth=product.depth, channels=channels)

    def _nonlinear(self, seen: Nonlinearity, result: Tensor) -> Origin:
        index = len(self.nonlinearities)
        self.nonlinearities.append(seen)

        def listen(gradient: Tensor) -> None:
            seen.gradient = gradient.detach()

        self._unhooked.append((result, listen))
        origin = seen.origin
        return replace(
            origin,
            parametric=False,
            count=origin.count + 1,
            pending=origin.pending | {index},
            fresh=index,
        )

    def _mark_gates(self, tensors: Sequence[Tensor]) -> None:
        moving = [tensor for tensor in tensors if tensor.requires_grad]
        if len(moving) < 2:  # noqa: PLR2004
            return
        for tensor in moving:
            origin = self._origin(tensor)
            if origin is not None and origin.fresh is not None:
                self.nonlinearities[origin.fresh].gate = True


def _features(op: str, given: Sequence[tuple[Tensor, Origin]]) -> Tensor | None:
    """Which features of what comes before a layer's weight are not 0 on all that it is multiplied with."""
    moving = [number for number, (_, origin) in enumerate(given) if not origin.parametric]
    if op not in _LAYERS or len(moving) != 1 or given[moving[0] + 1 :] == []:
        return None
    x = given[moving[0]][0]
    return _audible(x, op) if x.ndim > 1 and x.numel() else None


def _audible(x: Tensor, op: str) -> Tensor:
    """Which features of what a product takes or gives are not 0 everywhere."""
    rows = x.detach().movedim(1 if op == "convolution" else -1, 0)
    return rows.reshape(len(rows), -1).any(1)


def _carried(op: str, given: Sequence[tuple[Tensor, Origin]]) -> Origin | None:
    """Where a result comes from that no weight made: from the deepest of what it was made of."""
    data = [origin for _, origin in given if not origin.parametric]
    if not data:
        # A matrix before a vector: a bias or a scale does not tell which weight it is.
        own = max(given, key=lambda item: item[0].ndim, default=None)
        return own[1] if own else None
    deepest = data[0]
    for origin in data[1:]:
        deepest = origin if origin.depth > deepest.depth else deepest
    pending = frozenset[int]().union(*(origin.pending for origin in data))
    return replace(deepest, pending=pending, fresh=deepest.fresh if op in _VIEWS else None)


def _bounds(op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float] | None:
    """Between which inputs a nonlinearity may have a slope; None for what is none."""
    if op in _CLAMPS:
        low, high = _limits(op, args, kwargs)
        # A bound other than 0 on one side alone guards against log(0) and the like.
        return (low, high) if low == 0.0 or (math.isfinite(low) and math.isfinite(high)) else None
    known = op in _RECTIFIERS or op in _BOUNDED or op in _SOFTMAX or op == "leaky_relu"
    return (-math.inf, math.inf) if known else None


def _limits(op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float]:
    default = (-1.0, 1.0) if op == "hardtanh" else (-math.inf, math.inf)
    names = ("min_val", "max_val") if op == "hardtanh" else ("min", "max")
    found = [
        kwargs.get(name, args[place] if len(args) > place else missing)
        for place, name, missing in zip((1, 2), names, default, strict=True)
    ]
    low, high = (
        float(value) if isinstance(value, int | float) else missing
        for value, missing in zip(found, (-math.inf, math.inf), strict=True)
    )
    return low, high


def _again(func: Any, op: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Give the nonlinearity as a function of its input alone, not in place."""
    pure = getattr(getattr(torch.ops.aten, op), func._overloadname)  # noqa: SLF001
    rest, options = args[1:], dict(kwargs)
    return lambda x: cast("Tensor", pure(x, *rest, **options))


def _length(gradient: Tensor) -> Tensor:
    """Its norm, also where the squares of its numbers are too small for their type."""
    wide = gradient if gradient.dtype == torch.float64 else gradient.float()
    largest = wide.abs().amax() if wide.numel() else wide.new_zeros(())
    return largest * (wide / largest.clamp(min=torch.finfo(wide.dtype).tiny)).norm()
