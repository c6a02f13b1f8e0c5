"""Trainable parameters as one flat vector, and the vector's pieces put in the model's places."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """One trainable parameter and every place it hangs in; tied weights hang in several."""

    name: str
    parameter: nn.Parameter
    places: tuple[tuple[nn.Module, str], ...]


class Parameters:
    """The trainable parameters of a model in a fixed order, each once however often it is tied.

    Attributes:
        slots: In the order of `model.named_parameters()`.
        size: Number of scalars in the flat vector.
        dtype: Of the flat vector: the widest of the parameters' types, at least float32, since a step
            smaller than the rounding of half precision must not be lost while measuring.
        device: Of the flat vector.
    """

    def __init__(self, model: nn.Module, *, dtype: torch.dtype | None = None) -> None:
        self.slots = _slots(model)
        self.device = self.slots[0].parameter.device
        self.dtype = dtype or _widest(slot.parameter.dtype for slot in self.slots)
        self.widened = dtype is not None and any(slot.parameter.dtype != dtype for slot in self.slots)
        self._sizes = [slot.parameter.numel() for slot in self.slots]
        self.size = sum(self._sizes)

    def flatten(self, tensors: Sequence[Tensor]) -> Float[Tensor, " n"]:
        """Concatenate one tensor a slot into a flat vector."""
        return torch.cat([tensor.detach().reshape(-1).to(self.device, self.dtype) for tensor in tensors])

    def current(self) -> Float[Tensor, " n"]:
        """Give a copy of the parameters as they are now."""
        return self.flatten([slot.parameter for slot in self.slots])

    def pieces(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as one tensor a slot."""
        parts = vector.split(self._sizes)
        return [part.view(slot.parameter.shape) for part, slot in zip(parts, self.slots, strict=True)]

    def leaves(self, vector: Float[Tensor, " n"]) -> list[Tensor]:
        """View a flat vector as leaves to differentiate by; they share its memory."""
        return [piece.detach().requires_grad_() for piece in self.pieces(vector)]

    @contextmanager
    def placed(self, leaves: Sequence[Tensor]) -> Generator[None]:
        """Let the model compute with `leaves`; afterwards its own parameters are back in their places."""
        try:
            for slot, leaf in zip(self.slots, leaves, strict=True):
                tensor = leaf if self.widened else leaf.to(slot.parameter.device, slot.parameter.dtype)
                for module, name in slot.places:
                    vars(module)["_parameters"][name] = tensor
            yield
        finally:
            for slot in self.slots:
                for module, name in slot.places:
                    vars(module)["_parameters"][name] = slot.parameter


def _slots(model: nn.Module) -> tuple[Slot, ...]:
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in vars(module)["_parameters"].items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, name))
    return tuple(
        Slot(name, parameter, tuple(places[id(parameter)]))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.is_floating_point()
    )


def _widest(dtypes: Iterator[torch.dtype]) -> torch.dtype:
    return torch.float64 if torch.float64 in set(dtypes) else torch.float32
