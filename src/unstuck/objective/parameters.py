"""Trainable parameters as one flat vector, and the vector's pieces put in the model's places."""

import copy
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unstuck.errors import TrainingError
from unstuck.objective.shards import Sharded, like, local, reshard, space_of


@dataclass(frozen=True)
class Slot:
    """One trainable parameter and every dictionary of a module it hangs in; tied weights hang in several."""

    name: str
    parameter: nn.Parameter
    places: tuple[tuple[dict[str, Tensor | None], str], ...]

    @property
    def here(self) -> Tensor:
        """What this process holds of it: all, unless the model is divided."""
        return local(self.parameter.detach())

    def whole(self, part: Tensor) -> Tensor:
        """Give a tensor of the shape of `here` as a tensor that is divided as the parameter is."""
        return like(self.parameter, part)


class Parameters:
    """The trainable parameters of a model in a fixed order, each once however often it is tied.

    Of a model that `fully_shard` has divided, the flat vector holds this process's shards.

    Args:
        model: Whose parameters.
        found: All modules that may hold them, if more than the model's own.
        thawed: Names of frozen parameters that count as trainable.
        dtype: Compute in this type instead of the parameters' own types.

    Attributes:
        slots: In the order of `model.named_parameters()`.
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
    ) -> None:
        reshard(model)
        self._model = model
        self._cast = dtype
        self.slots = _slots(model, found or list(model.modules()), thawed)
        self.device = self.slots[0].here.device
        self.dtype = dtype or _widest(slot.parameter.dtype for slot in self.slots)
        self._measure()
        if self.sharded and (dtype is not None or thawed):
            msg = "a model divided by fully_shard is computed in its own types, and what is frozen stays so"
            raise TrainingError(msg)

    def _measure(self) -> None:
        held = [slot.parameter for slot in self.slots]
        self.space = space_of(self._model, held)
        self.sharded = Sharded(self._model, held) if self.space.parts is not None else None
        self.size = self.space.size
        self._shapes = [slot.here.shape for slot in self.slots]
        self._sizes = [shape.numel() for shape in self._shapes]

    def of(self, slots: Sequence[Slot]) -> "Parameters":
        """Give the same for other parameters of the model."""
        other = copy.copy(self)
        other.slots = tuple(slots)
        other._measure()  # noqa: SLF001  # its own class
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
            tensor = leaf.to(slot.parameter.device, self._cast or slot.parameter.dtype)
            for places, name in slot.places:
                places[name] = tensor


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


def _flat(tensor: Tensor) -> Tensor:
    # Embeddings may give sparse gradients.
    return (tensor if tensor.layout == torch.strided else tensor.to_dense()).reshape(-1)


def _widest(dtypes: Iterator[torch.dtype]) -> torch.dtype:
    return torch.float64 if torch.float64 in set(dtypes) else torch.float32
