"""Flat vectors of which every process holds all, or its own part: the one inner product that they have."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from unstuck import processes

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_DISTRIBUTED = "torch.distributed.tensor"

# Random numbers are drawn in blocks of so many, a multiple of the 16 that PyTorch draws at a time: put together they
# are, bit for bit, what one call would have drawn, and only one block of the whole vector is ever held.
_BLOCK, _AT_A_TIME = 1 << 20, 16

# BLAS adds up products one after the other: of ten million numbers in float32 a norm comes out wrong by a thousandth,
# measured, and of a part of this length by a millionth. Accelerators add up in trees; many small parts would only be
# slow there.
_PART, _PART_THERE = 1 << 16, 1 << 22


def is_distributed(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a DTensor: of which there are none where nobody has imported them, which takes a second."""
    return _DISTRIBUTED in sys.modules and isinstance(tensor, _distributed().DTensor)


def _distributed() -> Any:
    return sys.modules[_DISTRIBUTED]


def part_length(vector: Tensor) -> int:
    """How many numbers of a vector on that device are best worked on at a time."""
    return _PART if vector.device.type == "cpu" else _PART_THERE


def inner(rows: Float[Tensor, "k n"], vector: Float[Tensor, " n"]) -> Float[Tensor, " k"]:
    """Inner products of every row with `vector`, as exact as their type allows however long they are."""
    length = part_length(vector)
    if vector.numel() <= length:
        return rows @ vector
    parts = zip(rows.split(length, dim=1), vector.split(length), strict=True)
    return torch.stack([some @ part for some, part in parts]).sum(dim=0)


@dataclass(frozen=True)
class Frame:
    """Parts of vectors as a tensor that PyTorch itself knows to be divided.

    Attributes:
        mesh: Of processes.
        placements: Along each of its dimensions.
        width: Length of the longest part; shorter ones are filled up with zeros, which no inner product sees.
        divided: Over how many processes.
    """

    mesh: DeviceMesh
    placements: tuple[Any, ...]
    width: int
    divided: int


@dataclass(frozen=True)
class Space:
    """Where flat vectors live.

    Attributes:
        size: Numbers in the whole vector.
        parts: Which of them this process holds, as ascending ranges; None: all.
        replicas: How many processes hold the same part.
        frame: How the parts lie on the mesh of processes; None: there are none.
    """

    size: int
    parts: tuple[tuple[int, int], ...] | None = None
    replicas: int = 1
    frame: "Frame | None" = None

    def reduce(self, partial: Tensor) -> Tensor:
        """Sum partial inner products over the parts.

        Parts that several processes hold count once. Where all hold everything this is the mean of what should be one
        number: so that it is, whatever their processors make of it.
        """
        if processes.count() == 1:
            return partial
        copies = processes.count() if self.parts is None else self.replicas
        return processes.total(partial.clone()) / copies

    def dot(self, one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
        """Inner product, in the vectors' own type."""
        return float(self.reduce(inner(one[None], other)))

    def square(self, vector: Float[Tensor, " n"]) -> float:
        """Sum of squares, in float64."""
        return float(self.reduce(vector.double().square().sum()))

    def norm(self, vector: Float[Tensor, " n"]) -> float:
        """Euclidean norm."""
        if self.parts is None:
            return math.sqrt(self.dot(vector, vector))
        return math.sqrt(self.square(vector))

    def share(self, mask: Bool[Tensor, " n"]) -> tuple[float, float]:
        """How many numbers of the whole vector are marked, of how many."""
        marked = torch.tensor([float(mask.sum()), float(mask.numel())], dtype=torch.float64)
        some, of = self.reduce(marked).tolist()
        return some, of

    def finite(self, vector: Float[Tensor, " n"]) -> bool:
        """Whether every number of the whole vector is finite."""
        return self.share(~vector.isfinite())[0] == 0.0

    def collected(self, numbers: Tensor) -> Tensor:
        """Put together what was chosen of each part of a vector: a few numbers, held by every process."""
        return numbers if self.parts is None else torch.cat(processes.gathered(numbers))

    def dressed(self, vector: Float[Tensor, " n"]) -> Tensor:
        """Give a vector in the form in which PyTorch's own optimizers take inner products of the whole."""
        frame = self.frame
        if frame is None:
            return vector
        filled = torch.nn.functional.pad(vector, (0, frame.width - len(vector)))
        shape = torch.Size([frame.width * frame.divided])
        return _distributed().DTensor.from_local(
            filled, frame.mesh, frame.placements, run_check=False, shape=shape, stride=(1,)
        )

    def bare(self, dressed: Tensor) -> Float[Tensor, " n"]:
        """Take it back from that form."""
        if not is_distributed(dressed) or self.parts is None:
            return dressed
        return dressed.to_local()[: sum(last - first for first, last in self.parts)]

    def draw(self, generator: torch.Generator) -> Float[Tensor, " n"]:
        """Draw this process's part of one vector of normal numbers, the same however it is divided.

        In float64, on the CPU. Each process draws all of it, by a generator in the same state.
        """
        if self.parts is None:
            return torch.randn(self.size, generator=generator, dtype=torch.float64)
        held = [
            block[max(first - begin, 0) : last - begin]
            for begin, block in self._blocks(generator)
            for first, last in self.parts
            if first < begin + len(block) and last > begin
        ]
        return torch.cat([torch.empty(0, dtype=torch.float64), *held])

    def _blocks(self, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
        begin = 0
        while begin < self.size:
            left = self.size - begin
            length = _BLOCK if left >= _BLOCK + _AT_A_TIME else left
            yield begin, torch.randn(length, generator=generator, dtype=torch.float64)
            begin += length
