"""Trainable parameters as one flat vector, and the vector's pieces put in the model's places."""

import copy
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.errors import TrainingError
from unstuck.objective.shards import Sharded, like, local, reshard, space_of


@dataclass(frozen=True)
class Slot:
    """One trainable parameter and every place it hangs in, mostly of a module; tied weights hang in several."""

    name: str
    parameter: Tensor
    places: tuple[tuple[Any, Any], ...]

    @property
    def here(self) -> Tensor:
        """What this process holds of it: all, unless the model is divided."""
        return local(self.parameter.detach())

    def whole(self, part: Tensor) -> Tensor:
        """Give a tensor of the shape of `here` as a tensor that is divided as the parameter is."""
        return like(self.parameter, part)

    def put(self, tensor: Tensor) -> None:
        """Hang a tensor in its places."""
        for places, name in self.places:
            places[name] = tensor

    def written(self) -> bool:
        """Whether the copy of the parameter that was put there has been written on."""
        places, name = self.places[0]
        there = places.get(name)
        # An update through `.data` leaves no trace but the numbers.
        return there is None or not torch.equal(there, self.parameter.detach().to(there.dtype))


class Parameters:
    """The trainable parameters of a model in a fixed order, each once however often it is tied.

    Of a model that `fully_shard` has divided, the flat vector holds this process's shards.

    Args:
        model: Whose parameters.
        found: All modules that may hold them, if more than the model's own.
        thawed: Names of frozen parameters that count as trainable.
        dtype: Compute in this type instead of the parameters' own types.
        among: Patterns of names, as in a shell: what else could be trained is held fixed. None: nothing is.

    Attributes:
        slots: In the order of `model.named_parameters()`.
        among: The patterns.
        trainable: Number of scalars that could be trained, those held fixed among them.
        aliased: Whether the model may compute with the very memory of what is held fixed; not if it writes on it.
        space: What the flat vector is a part of.
        size: Number of scalars in the whole vector.
        sharded: How a divided model is evaluated; None where it is not divided.
        dtype: Of the flat vector: the widest of the parameters' types, at least float32, since a step
            smaller than the rounding of half precision must not be lost while measuring.
        device: Of the flat vector.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        found: Sequence[nn.Module] = (),
        thawed: AbstractSet[str] = frozenset(),
        dtype: torch.dtype | None = None,
        among: Sequence[str] = (),
    ) -> None:
        reshard(model)
        self._model = model
        self._cast = dtype
        self.among = tuple(among)
        self.aliased = False
        trainable = _slots(model, found or list(model.modules()), thawed)
        self.trainable = sum(slot.parameter.numel() for slot in trainable)
        chosen = _chosen(model, trainable, self.among)
        self.slots = tuple(slot for slot in trainable if slot.name in chosen)
        self._held = tuple(slot for slot in trainable if slot.name not in chosen)
        self.device = self.slots[0].here.device
        self.dtype = dtype or _widest(slot.parameter.dtype for slot in self.slots)
        self._measure()
        if self.sharded and (dtype is not None or thawed):
            msg = "a model divided by fully_shard is computed in its own types, and what is frozen stays so"
            raise TrainingError(msg)

    @property
    def eps(self) -> float:
        """What one is rounded by in the coarsest type that the model computes with its parameters in."""
        return max(torch.finfo(self._cast or slot.parameter.dtype).eps for slot in self.slots)

    def _measure(self) -> None:
        moving, held = ([slot.parameter for slot in slots] for slots in (self.slots, self._held))
        self.space = space_of(self._model, moving)
        self.sharded = Sharded(self._model, moving, held) if self.space.parts is not None else None
        self.size = self.space.size
        self._shapes = [slot.here.shape for slot in self.slots]
        self._sizes = [shape.numel() for shape in self._shapes]

    def of(self, slots: Sequence[Slot]) -> "Parameters":
        """Give the same for other parameters of the model."""
        other = copy.copy(self)
        other.slots = tuple(slots)
        given = {id(slot.parameter) for slot in slots}
        other._held = tuple(s for s in self._held if id(s.parameter) not in given)  # noqa: SLF001  # its own class
        other._measure()  # noqa: SLF001
        return other

    def flatten(self, tensors: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """Concatenate one tensor a slot into a flat vector."""
        with torch.no_grad():
            flat = [_flat(local(tensor)) for tensor in tensors]
            if any(tensor.dtype != self.dtype or tensor.device != self.device for tensor in flat):
                flat = [tensor.to(self.device, self.dtype) for tensor in flat]
            return torch.cat(flat)

    def current(self) -> Float[Tensor, " n"]:
        """Give a copy of the parameters as they are now."""
        return self.flatten([slot.parameter for slot in self.slots])

    def pieces(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as one tensor a slot."""
        parts = vector.split(self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def stacked(self, rows: Float[Tensor, "k n"]) -> list[Tensor]:
        """View several flat vectors as one tensor a slot, stacked along a new first dimension."""
        parts = rows.split(self._sizes, dim=1)
        return [part.reshape(len(rows), *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def leaves(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as leaves to differentiate by; they share its memory."""
        return [piece.detach().requires_grad_() for piece in self.pieces(vector)]

    def place(self, leaves: Sequence[Tensor]) -> None:
        """Let the model compute with `leaves`; only while its own parameters are remembered elsewhere."""
        if self.sharded:
            self.sharded.place(leaves)
            return
        for slot, leaf in zip(self.slots, leaves, strict=True):
            slot.put(leaf.to(slot.parameter.device, self._cast or slot.parameter.dtype))
        # Without the gradient that they may ask for, no graph is kept of what they alone take part in.
        for slot in self._held:
            slot.put(slot.parameter.detach().to(self._cast or slot.parameter.dtype, copy=not self.aliased))

    def writes_on_held(self) -> bool:
        """Whether the model, once evaluated, has written on what is held fixed; only before the places are left."""
        return not self.sharded and any(slot.written() for slot in self._held)


def _slots(model: nn.Module, found: Sequence[nn.Module], thawed: AbstractSet[str]) -> tuple[Slot, ...]:
    places: dict[int, list[tuple[dict[str, Tensor | None], str]]] = {}
    for module in found:
        own = vars(module)["_parameters"]
        for name, parameter in own.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((own, name))
    return tuple(
        Slot(name, parameter, tuple(places[id(parameter)]))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or name in thawed
    )


def patterns(only: Sequence[str]) -> tuple[str, ...]:
    """Give several patterns, also where one was given by itself."""
    return (only,) if isinstance(only, str) else tuple(only)


def check_names(model: nn.Module, among: Sequence[str]) -> None:
    """Make sure that every pattern means something.

    Raises:
        TrainingError: No parameter that is trained has such a name; the message says which there are.
    """
    _chosen(model, _slots(model, list(model.modules()), frozenset()), among)


def _chosen(model: nn.Module, trainable: Sequence[Slot], among: Sequence[str]) -> AbstractSet[str]:
    """Names of the slots that a pattern matches, from their beginning or after a dot, by any name they have."""
    if not among:
        return {slot.name for slot in trainable}
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    chosen: set[str] = set()
    for pattern in among:
        matched = {
            slot.name
            for slot in trainable
            if any(matches(name, pattern) for name in names[id(slot.parameter)])
        }
        if not matched:
            some = ", ".join(slot.name for slot in _spread(trainable))
            msg = f"`only`: no trained parameter matches {pattern!r}: there are {len(trainable)}, among them {some}"
            raise TrainingError(msg)
        chosen |= matched
    return chosen


def matches(name: str, pattern: str) -> bool:
    """Whether a name, or what follows one of its dots, is as the pattern says: `h.1.*` is `transformer.h.1.*` too.

    A pattern that begins with a dot is that of the whole name.
    """
    return fnmatchcase(f".{name}", pattern if pattern.startswith(".") else f"*.{pattern}")


def exactly(name: str) -> str:
    """Give the pattern of this name alone."""
    return "." + re.sub(r"([*?[])", r"[\1]", name)


# An error shows so many names, from the first layer to the last.
_SHOWN = 6


def _spread(slots: Sequence[Slot]) -> Sequence[Slot]:
    last, shown = len(slots) - 1, min(_SHOWN, len(slots))
    return [slots[round(number * last / max(shown - 1, 1))] for number in range(shown)]


def _flat(tensor: Tensor) -> Tensor:
    # Embeddings may give sparse gradients.
    return (tensor if tensor.layout == torch.strided else tensor.to_dense()).reshape(-1)


def _widest(dtypes: Iterator[torch.dtype]) -> torch.dtype:
    return torch.float64 if torch.float64 in set(dtypes) else torch.float32
