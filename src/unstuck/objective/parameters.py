"""Trainable parameters as one flat vector, and the vector's pieces put in the model's places."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """One trainable parameter and every dictionary of a module it hangs in; tied weights hang in several."""

    name: str
    parameter: nn.Parameter
    places: tuple[tuple[dict[str, Tensor | None], str], ...]


class Parameters:
    """The trainable parameters of a model in a fixed order, each once however often it is tied.

    Args:
        model: Whose parameters.
        found: All modules that may hold them, if more than the model's own.
        thawed: Names of frozen parameters that count as trainable.
        dtype: Compute in this type instead of the parameters' own types.

    Attributes:
        slots: In the order of `model.named_parameters()`.
        size: Number of scalars in the flat vector.
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
        self.slots = _slots(model, found or list(model.modules()), thawed)
        self.device = self.slots[0].parameter.device
        self.dtype = dtype or _widest(slot.parameter.dtype for slot in self.slots)
        self._cast = dtype
        self._sizes = [slot.parameter.numel() for slot in self.slots]
        self.size = sum(self._sizes)

    def flatten(self, tensors: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """Concatenate one tensor a slot into a flat vector."""
        with torch.no_grad():
            flat = [_flat(tensor) for tensor in tensors]
            if any(tensor.dtype != self.dtype or tensor.device != self.device for tensor in flat):
                flat = [tensor.to(self.device, self.dtype) for tensor in flat]
            return torch.cat(flat)

    def current(self) -> Float[Tensor, " n"]:
        """Give a copy of the parameters as they are now."""
        return self.flatten([slot.parameter for slot in self.slots])

    def pieces(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as one tensor a slot."""
        parts = vector.split(self._sizes)
        return [part.view(slot.parameter.shape) for part, slot in zip(parts, self.slots, strict=True)]

    def stacked(self, rows: Float[Tensor, "k n"]) -> list[Tensor]:
        """View several flat vectors as one tensor a slot, stacked along a new first dimension."""
        parts = rows.split(self._sizes, dim=1)
        return [
            part.reshape(len(rows), *slot.parameter.shape)
            for part, slot in zip(parts, self.slots, strict=True)
        ]

    def leaves(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as leaves to differentiate by; they share its memory."""
        return [piece.detach().requires_grad_() for piece in self.pieces(vector)]

    def place(self, leaves: Sequence[Tensor]) -> None:
        """Let the model compute with `leaves`; only while its own parameters are remembered elsewhere."""
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
