"""What goes into the layers of a model and what comes back, for all examples of a `vmap`, out of one backward pass.

Inside `vmap` a layer sees one example, but PyTorch evaluates it on all at once. There its inputs are kept, and in the
backward pass the gradients by its outputs come to them; the gradient by the weight itself is not made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from unstuck.batch.shares import Lookup, Outer, Share


class Tapping(TorchFunctionMode):
    """Inside, layers that are computed from a weight by itself are tapped, and counted.

    Args:
        slots: Of each weight, by its identity, the number it goes by.
        takes: Is handed the gradients of the examples in the backward pass; to be inside a `vmap` then. None: layers
            are only counted.

    Attributes:
        uses: How often the weight of each slot was met.
        lane: A number that each example has of its own; to be set inside the `vmap`.
    """

    lane: Tensor | None = None

    def __init__(self, slots: Mapping[int, int], takes: Callable[[int, Share], None] | None = None) -> None:
        super().__init__()
        self.uses: dict[int, int] = {}
        self._slots, self._takes = slots, takes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Tap what can be tapped; everything else runs as it is."""
        del types
        kwargs = kwargs or {}
        known = _KNOWN.get(func)
        layer = None if known is None else known(*args, **kwargs)
        slot = None if layer is None else self._slots.get(id(layer.weight))
        if layer is None or slot is None:
            return func(*args, **kwargs)
        self.uses[slot] = self.uses.get(slot, 0) + 1
        takes = self._takes
        if takes is None:
            return func(*args, **kwargs)
        return layer.tapped(_Tap(lambda share: takes(slot, share), self.lane))


@dataclass(frozen=True)
class _Tap:
    """Not a tuple, nor a list: `vmap` would take it apart.

    Attributes:
        take: Is handed the gradients.
        lane: Something that each example has of its own, so that layers which see what is the same for all come too.
    """

    take: Callable[[Share], None]
    lane: Tensor | None


@dataclass(frozen=True)
class _Layer:
    """A layer whose weight's gradients are known: how to compute it with a tap."""

    weight: Tensor
    tapped: Callable[[_Tap], Tensor]


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> _Layer | None:  # noqa: A002
    if weight.ndim != 2 or not _plain(input, weight):  # noqa: PLR2004
        return None

    def tapped(tap: _Tap) -> Tensor:
        made = _layered(input, weight, tap, _Linear)
        return made if bias is None else made + bias

    return _Layer(weight, tapped)


def _matmul(input: Tensor, other: Tensor) -> _Layer | None:  # noqa: A002
    if other.ndim != 2 or not _plain(input, other):  # noqa: PLR2004
        return None
    return _Layer(other, lambda tap: _layered(input, other, tap, _Product))


def _addmm(
    input: Tensor,  # noqa: A002
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> _Layer | None:
    layer = _matmul(mat1, mat2)
    if layer is None or (beta, alpha) != (1, 1):
        return None
    return _Layer(mat2, lambda tap: input + layer.tapped(tap))


def _conv2d(  # noqa: PLR0913, PLR0917  # as in PyTorch
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> _Layer | None:
    if groups != 1 or isinstance(padding, str) or not _plain(input, weight) or input.ndim != 4:  # noqa: PLR2004
        return None
    geometry = _Geometry(_pair(stride), _pair(padding), _pair(dilation))

    def tapped(tap: _Tap) -> Tensor:
        made = _layered(input, weight, tap, geometry)
        return made if bias is None else made + bias[:, None, None]

    return _Layer(weight, tapped)


def _embedding(  # noqa: PLR0913, PLR0917  # as in PyTorch
    input: Tensor,  # noqa: A002
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,  # noqa: FBT001, FBT002
    sparse: bool = False,  # noqa: FBT001, FBT002
) -> _Layer | None:
    del norm_type, sparse
    if max_norm is not None or scale_grad_by_freq:
        return None
    # Counted from the end, where it is negative.
    silent = None if padding_idx is None else padding_idx % len(weight)
    return _Layer(weight, lambda tap: _layered(input, weight, tap, _Table(silent)))


def _plain(inputs: Tensor, weight: Tensor) -> bool:
    """Whether nothing is cast on the way."""
    return inputs.dtype == weight.dtype and not torch.is_autocast_enabled(weight.device.type)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


_KNOWN: dict[Any, Callable[..., _Layer | None]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    torch.matmul: _matmul,
    torch.mm: _matmul,
    Tensor.__matmul__: _matmul,
    Tensor.matmul: _matmul,
    Tensor.mm: _matmul,
    functional.conv2d: _conv2d,
    functional.embedding: _embedding,
}


def _layered(inputs: Tensor, weight: Tensor, tap: _Tap, layer: Any) -> Tensor:
    return cast("Tensor", _Vectorized.apply(inputs, weight, tap, layer, tap.lane))


class _Vectorized(Function):
    """Hands all examples of a `vmap` at once to a layer."""

    @staticmethod
    def forward(*_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        msg = "the layer is not inside a vmap"
        raise RuntimeError(msg)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: `vmap` replaces it."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, inputs: Tensor, weight: Tensor, tap: _Tap, layer: Any, _: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        """Evaluate the layer on all examples."""
        if in_dims[0] is None:
            inputs = inputs.expand(info.batch_size, *inputs.shape)
        else:
            inputs = inputs.movedim(in_dims[0], 0)
        return _Tapped.apply(inputs, weight, tap, layer), 0


class _Tapped(Function):
    """A layer on m examples, each with its own dimension of a batch."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, tap: _Tap, layer: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        ctx.save_for_backward(inputs, weight)
        ctx.tap, ctx.layer = tap, layer
        return layer.forward(inputs, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as documented
        inputs, weight = ctx.saved_tensors
        ctx.tap.take(ctx.layer.share(inputs, weight, grads[0]))
        wanted = ctx.needs_input_grad[0]
        return ctx.layer.back(inputs, weight, grads[0]) if wanted else None, None, None, None


class _Linear:
    @staticmethod
    def forward(inputs: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(inputs, weight)

    @staticmethod
    def back(inputs: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        del inputs
        return grad @ weight

    @staticmethod
    def share(inputs: Tensor, weight: Tensor, grad: Tensor) -> Share:
        o, i = weight.shape
        return Outer(inputs, grad.reshape(len(grad), -1, o), lambda some: some.reshape(len(some), -1, i))


class _Product:
    """With a matrix that is not transposed, unlike that of a linear layer."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor) -> Tensor:
        return inputs @ weight

    @staticmethod
    def back(inputs: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        del inputs
        return grad @ weight.T

    @staticmethod
    def share(inputs: Tensor, weight: Tensor, grad: Tensor) -> Share:
        i, o = weight.shape
        return Outer(grad, inputs.reshape(len(inputs), -1, i), lambda some: some.reshape(len(some), -1, o))


@dataclass(frozen=True)
class _Geometry:
    """Of a convolution over two dimensions."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        made = functional.conv2d(inputs.flatten(0, 1), weight, None, self.stride, self.padding, self.dilation)
        return made.unflatten(0, inputs.shape[:2])

    def back(self, inputs: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
        flat = inputs.flatten(0, 1)
        shape: Any = self.stride, self.padding, self.dilation  # which the stub takes for single numbers
        made = conv2d_input(flat.shape, weight, grad.flatten(0, 1), *shape)
        return made.view_as(inputs)

    def share(self, inputs: Tensor, weight: Tensor, grad: Tensor) -> Share:
        def unfold(some: Tensor) -> Tensor:
            patches = functional.unfold(
                some.flatten(0, 1), weight.shape[2:], self.dilation, self.padding, self.stride
            )
            return patches.unflatten(0, some.shape[:2]).transpose(2, 3).flatten(1, 2)

        return Outer(inputs, grad.flatten(3).transpose(2, 3).flatten(1, 2), unfold)


@dataclass(frozen=True)
class _Table:
    """Of an embedding.

    Attributes:
        silent: The row that gets no gradient.
    """

    silent: int | None

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        return functional.embedding(inputs, weight)

    def back(self, inputs: Tensor, weight: Tensor, grad: Tensor) -> None:
        """Rows have numbers, which have no gradient."""

    def share(self, inputs: Tensor, weight: Tensor, grad: Tensor) -> Share:
        rows = inputs.reshape(len(inputs), -1).long()
        outputs = grad.reshape(*rows.shape, -1)
        if self.silent is not None:
            outputs = outputs.masked_fill((rows == self.silent)[..., None], 0.0)
        return Lookup(rows, outputs, len(weight))
