"""Which operation makes NaN or Inf out of finite numbers, in which module, forwards or backwards."""

import contextlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_HALF = (torch.float16, torch.bfloat16)

# Operations that put an infinity on purpose (masks), or give memory that nobody has written yet.
_INNOCENT = ("masked_fill", "full", "fill", "where", "empty", "scalar_tensor", "new_", "lift_fresh", "copy")

# A number at which log, log(1 - x), sqrt and 1/x are all at ease.
_BENIGN = 0.5

# Harmless operations to pass over before giving up: more masks than this are made once a layer, and alike.
_MOST = 8

# What tells nodes of the graph apart has no public name; without it, the place of a derivative stays unknown.
_TORCH: Any = getattr(torch, "_C", None)

# Evaluates the loss and its gradient, and says whether either came out as NaN or Inf.
IsBroken = Callable[[], bool]


@dataclass(frozen=True)
class Breaking:
    """An operation that makes NaN or Inf.

    Attributes:
        module: Name of the innermost module it is called in, or "loss" outside of all.
        operation: Its name; for one of the backward pass, that of the operation it is the derivative of.
        kind: "NaN" or "Inf".
        dtype: Of what it makes, e.g. "float16".
        overflow: The same operation on the same numbers is finite in float32.
        derivative: It is the derivative that breaks, while the operation itself does not.
        of_infinities: What it was given was not finite itself, as masks leave it.
    """

    module: str
    operation: str
    kind: str
    dtype: str
    overflow: bool
    derivative: bool
    of_infinities: bool = False


def find_breaking(model: nn.Module, is_broken: IsBroken) -> tuple[Breaking | None, Breaking | None]:
    """Find the operation that breaks an evaluation which came out as NaN or Inf, by trying it.

    The first result makes NaN or Inf out of finite numbers, and alone suffices to break the evaluation: what
    all other such operations make is exchanged for a harmless number meanwhile. An infinity that is meant,
    as in masks, does not suffice. The second one, if there is no first, makes NaN out of infinities, as
    softmax does where everything is masked.

    Costs at most ten evaluations, mostly one; each looks at every result of every operation.
    """
    for number in range(_MOST):
        broken, watch = _run(model, is_broken, number)
        if broken is None or len(watch.breaking) <= number:
            break
        if broken:
            return watch.breaking[number], None
    broken, watch = _run(model, is_broken, None)
    if broken is None:  # a model that does not bear being watched
        return None, None
    return (None, watch.undefined) if watch.undefined else (next(iter(watch.breaking), None), None)


def kind_of(tensor: Tensor) -> str:
    """Give "NaN", "Inf" or, where all is finite, ""."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
        return ""
    values = tensor.detach()
    values = values if values.layout == torch.strided else values.to_dense()
    if bool(values.isfinite().all()):
        return ""
    return "NaN" if bool(values.isnan().any()) else "Inf"


def dtype_of(tensor: Tensor) -> str:
    """Name the type, e.g. "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def _run(model: nn.Module, is_broken: IsBroken, alone: int | None) -> tuple[bool | None, "_Watch"]:
    watch = _Watch(alone)
    with contextlib.suppress(Exception), _named(model, watch.inside), watch:
        return is_broken(), watch
    return None, watch


@contextmanager
def _named(model: nn.Module, inside: list[str]) -> Generator[None]:
    """Keep the names of the modules that are being called in `inside`."""
    names = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, _: Any) -> None:
        inside.append(names.get(id(module)) or type(module).__name__)

    def leave(*_: Any) -> None:
        if inside:
            inside.pop()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchDispatchMode):
    """Notes operations that make NaN or Inf; only the one numbered `alone`, if any, may have its effect."""

    def __init__(self, alone: int | None) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.breaking: list[Breaking] = []
        self.undefined: Breaking | None = None
        self._alone = alone
        # By the sequence number of its node in the graph: module and operation, and whether it broke itself.
        self._made: dict[int, tuple[str, str]] = {}
        self._broke: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        node = _node()
        if node is None:
            self._made.setdefault(_last_number(), (self._module(), _name(func)))
        # Asked beforehand, since an operation in place overwrites its input.
        kinds = set(map(kind_of, _floating((args, kwargs)))) - {""}
        if "NaN" in kinds or func.__name__.startswith(_INNOCENT):
            return func(*args, **kwargs)
        before = tree_map(_in_single, (args, kwargs)) if not kinds and _is_half((args, kwargs)) else None
        outputs = func(*args, **kwargs)
        broken = next((tensor for tensor in _floating(outputs) if kind_of(tensor)), None)
        if broken is None:
            return outputs
        found = self._breaking(func, broken, node, overflow=before is not None and _is_finite(func, *before))
        if not kinds:
            self._note(found, outputs)
        elif found.kind == "NaN" and self.undefined is None:
            self.undefined = replace(found, of_infinities=True)
        return outputs

    def _note(self, found: Breaking, outputs: Any) -> None:
        if self._alone is not None and len(self.breaking) != self._alone:
            for tensor in _floating(outputs):
                tensor.nan_to_num_(_BENIGN, _BENIGN, _BENIGN)
        self.breaking.append(found)

    def _breaking(self, func: Any, broken: Tensor, node: Any, *, overflow: bool) -> Breaking:
        number = _last_number() if node is None else node._sequence_nr()  # noqa: SLF001
        if node is None:
            self._broke.add(number)
        module, operation = self._made.get(number, ("loss", _name(func)))
        if node is None:
            module, operation = self._module(), _name(func)
        derivative = node is not None and number not in self._broke
        return Breaking(module, operation, kind_of(broken), dtype_of(broken), overflow, derivative)

    def _module(self) -> str:
        return self.inside[-1] if self.inside else "loss"


def _node() -> Any:
    """The node of the graph whose derivative is being computed, None in the forward pass."""
    ask = getattr(_TORCH, "_current_autograd_node", None)
    return ask() if ask else None


def _last_number() -> int:
    """The sequence number of the node that was made last: that of the present operation, if it has one."""
    ask = getattr(getattr(_TORCH, "_autograd", None), "_get_sequence_nr", None)
    return ask() - 1 if ask else -1


def _name(func: Any) -> str:
    return func.__name__.partition(".")[0].strip("_")


def _is_finite(func: Any, args: Any, kwargs: Any) -> bool:
    with contextlib.suppress(Exception):
        return not any(map(kind_of, _floating(func(*args, **kwargs))))
    return False


def _is_half(value: Any) -> bool:
    leaves = tree_leaves(value)
    # A narrowing cast itself can overflow, too.
    return any(leaf in _HALF if isinstance(leaf, torch.dtype) else _half(leaf) for leaf in leaves)


def _half(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype in _HALF


def _in_single(leaf: Any) -> Any:
    if isinstance(leaf, torch.dtype):
        return torch.float32 if leaf in _HALF else leaf
    # Always another tensor: the operation may work in place.
    return (
        leaf.to(torch.float32 if _half(leaf) else leaf.dtype, copy=True) if isinstance(leaf, Tensor) else leaf
    )


def _floating(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
