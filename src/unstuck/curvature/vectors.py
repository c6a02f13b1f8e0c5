"""Flat vectors, possibly sharded over processes: one inner product, one store of orthonormal rows."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck.space import Space

MatVec = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]
Reduce = Callable[[Tensor], Tensor]
Draw = Callable[[torch.Generator], Tensor]

_CHUNK = 1 << 22  # numbers: a run of ten products should not pay for the memory of a hundred
_FEWEST_ROWS, _MOST_ROWS = 4, 64  # of a chunk, however long or short they are
_COLUMNS_PER_SLICE = 1 << 16  # a restart rotates the basis slice by slice, in place


def alone(partial: Tensor) -> Tensor:
    """Sum over one process: the identity."""
    return partial


@dataclass(frozen=True)
class Operator:
    """A symmetric linear operator that is only known by its products with vectors.

    Attributes:
        matvec: The product with a flat vector; of a sharded vector, with this process's shard of it.
        size: Number of rows over all processes.
        like: Template of the (local) vectors: their length, dtype (float32 or float64) and device.
        noise: Norm of the error of one product of a unit vector, as a share of the spectral norm.
        reduce: Sums partial inner products over the processes that hold shards.
        draw: Draws this process's shard of a vector of independent normal numbers; None: it is all of it.
    """

    matvec: MatVec
    size: int
    like: Float[Tensor, " n"]
    noise: float = 0.0
    reduce: Reduce = alone
    draw: Draw | None = None

    @property
    def rounding(self) -> float:
        """The relative error that the vectors' own precision brings into an inner product, generously."""
        return 10 * torch.finfo(self.like.dtype).eps


def inner(
    rows: Float[Tensor, "k n"], vector: Float[Tensor, " n"], reduce: Reduce = alone
) -> Float[Tensor, " k"]:
    """Inner products of every row with `vector`; all of this package's inner products are taken here."""
    return reduce(rows @ vector)


def norm(vector: Float[Tensor, " n"], reduce: Reduce = alone) -> float:
    """Euclidean norm of a vector whose shards may lie on several processes."""
    return float(inner(vector[None], vector, reduce)) ** 0.5


def random_unit(operator: Operator, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Draw a unit vector that has no preferred direction.

    Drawn on the CPU and then moved, so that the device does not change the result, and neither do shards.
    """
    like = operator.like
    draw = operator.draw or Space(like.numel()).draw
    drawn = draw(generator).to(like)
    return drawn / norm(drawn, operator.reduce)


class Basis:
    """Orthonormal rows, stored in chunks; it can be rotated in place."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._rows = min(max(_CHUNK // max(1, operator.like.numel()), _FEWEST_ROWS), _MOST_ROWS)
        self._chunks: list[Tensor] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Float[Tensor, " n"]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._chunks[index // self._rows][index % self._rows]

    def append(self, row: Float[Tensor, " n"]) -> None:
        """Store a copy of `row`, which the caller has made orthonormal to the others."""
        if self._count == len(self._chunks) * self._rows:
            like = self._operator.like
            self._chunks.append(like.new_empty(self._rows, like.numel()))
        self._chunks[-1][self._count % self._rows] = row
        self._count += 1

    def coordinates(self, vector: Float[Tensor, " n"], *, among: int | None = None) -> Float[Tensor, " k"]:
        """Inner products with all rows, or with the first `among` of them."""
        count = self._count if among is None else among
        return self._operator.reduce(torch.cat([rows @ vector for rows in self._filled(count)]))

    def combine(self, weights: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """Sum of the first rows, one weight for each."""
        total = torch.zeros_like(self._operator.like)
        for rows, part in zip(self._filled(len(weights)), weights.split(self._rows), strict=True):
            total.addmv_(rows.T, part)
        return total

    def orthogonalise(
        self, vector: Float[Tensor, " n"], *, among: int | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " k"]]:
        """Take the rows out of `vector`, twice, which is enough (Giraud et al., Numer. Math. 101, 2005).

        Args:
            vector: Stays as it is.
            among: Only the first so many rows.

        Returns:
            What is left, and the coordinates that were taken out.
        """
        first = self.coordinates(vector, among=among)
        vector = vector - self.combine(first)
        second = self.coordinates(vector, among=among)
        return vector - self.combine(second), first + second

    def rotate(self, rotation: Float[Tensor, "k m"]) -> None:
        """Replace the first k rows by m <= k combinations of them, and keep the row after them, in place."""
        kept, new = rotation.shape
        follower = self[kept].clone()
        for columns in range(0, len(follower), _COLUMNS_PER_SLICE):
            part = slice(columns, columns + _COLUMNS_PER_SLICE)
            old = torch.cat([rows[:, part] for rows in self._filled(kept)])
            for index, row in enumerate(rotation.T @ old):
                self[index][part] = row
        self._count = new
        self._chunks = self._chunks[: new // self._rows + 1]
        self.append(follower)

    def _filled(self, count: int) -> Iterator[Tensor]:
        left = count
        for chunk in self._chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


@contextlib.contextmanager
def undisturbed() -> Generator[None]:
    """Hold Ctrl-C back until the block is done, so that an interrupt cannot leave it half done."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pending and callable(handler):
        handler(*pending[0])
