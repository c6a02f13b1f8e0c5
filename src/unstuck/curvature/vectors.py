"""Flat vectors, possibly sharded over processes: one inner product, one store of orthonormal rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck import processes
from unstuck.space import Space, part_length
from unstuck.space import inner as within

MatVec = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]
Reduce = Callable[[Tensor], Tensor]
Draw = Callable[[torch.Generator], Tensor]

SMALLEST_CAPACITY = 8  # two Ritz vectors kept at each end, and room to move on

_ENOUGH = 64  # vectors: with fewer, much of what a run has learnt is lost again in restarts
_LONG = 1_000_000  # numbers, among which what rounding changes has no direction

_CHUNK = 1 << 22  # numbers: a run of ten products should not pay for the memory of a hundred
_FEWEST_ROWS, _MOST_ROWS = 4, 64  # of a chunk, however long or short they are


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

    @property
    def lost(self) -> float:
        """The share of the norm that is all rounding where a Krylov space has ended.

        Each small coupling on the way there makes rounding larger, to ten thousand times its own size as measured on
        matrices with few different eigenvalues. Going on with it would be going on from no random vector: it lies
        where products are large.
        """
        return float(torch.finfo(self.like.dtype).eps ** (2 / 3))


def inner(
    rows: Float[Tensor, "k n"], vector: Float[Tensor, " n"], reduce: Reduce = alone
) -> Float[Tensor, " k"]:
    """Inner products of every row with `vector`; all of this package's inner products are taken here."""
    return reduce(within(rows, vector))


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


@dataclass(frozen=True)
class Room:
    """How many vectors may be held at once, and in which form.

    Attributes:
        vectors: Beyond these a run restarts.
        halved: All but the newest are held in bfloat16.
    """

    vectors: int = 256
    halved: bool = False

    @classmethod
    def of(cls, memory: float, like: Tensor, most: int) -> "Room":
        """Give the room that so many bytes are, for up to `most` vectors, and a few in any case.

        Long vectors of float32 are held in half of it where memory would be short of what a run needs to go on
        without restarts.
        """
        fitting = memory / max(like.nbytes, 1)
        halved = fitting < min(_ENOUGH, most) and like.numel() >= _LONG and like.dtype == torch.float32
        fitting = processes.least(2.0 * fitting if halved else fitting)
        return cls(int(min(max(fitting, SMALLEST_CAPACITY), most)), halved)


class Basis:
    """Orthonormal rows, stored in chunks; it can be rotated in place.

    With `halved` they are stored in bfloat16, but for the newest two, as which Lanczos's recurrence has them. What
    rounding changes in a row, about a thousandth of it, has no direction, so that among a million numbers another
    vector has a millionth of its length along it: far less than the root of the precision that orthogonality may
    lose before the projected matrix does (Simon, Linear Algebra Appl. 61, 1984).
    """

    def __init__(self, operator: Operator, *, halved: bool = False) -> None:
        self._operator = operator
        self._rows = min(max(_CHUNK // max(1, operator.like.numel()), _FEWEST_ROWS), _MOST_ROWS)
        self._chunks: list[Tensor] = []
        self._count = 0
        self._held = torch.bfloat16 if halved else operator.like.dtype
        self._whole: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Float[Tensor, " n"]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index in self._whole:
            return self._whole[index]
        return self._chunks[index // self._rows][index % self._rows].to(self._operator.like.dtype)

    @property
    def halved(self) -> bool:
        """Whether all rows but the newest are rounded."""
        return self._held != self._operator.like.dtype

    def append(self, row: Float[Tensor, " n"]) -> None:
        """Store a copy of `row`, which the caller has made orthonormal to the others."""
        if self._count == len(self._chunks) * self._rows:
            like = self._operator.like
            self._chunks.append(like.new_empty(self._rows, like.numel(), dtype=self._held))
        self._chunks[-1][self._count % self._rows] = row
        if self.halved:
            self._whole = {index: kept for index, kept in self._whole.items() if index == self._count - 1}
            self._whole[self._count] = row.clone()
        self._count += 1

    def coordinates(self, vector: Float[Tensor, " n"], *, among: int | None = None) -> Float[Tensor, " k"]:
        """Inner products with all rows, or with the first `among` of them."""
        count = self._count if among is None else among
        if not self.halved:
            return self._operator.reduce(torch.cat([within(rows, vector) for rows in self._filled(count)]))
        found = torch.stack([rows @ vector[part] for part, rows in self._widened(count)]).sum(dim=0)
        for index in self._whole.keys() & range(count):
            found[index] = within(self._whole[index][None], vector)[0]
        return self._operator.reduce(found)

    def combine(self, weights: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """Sum of the first rows, one weight for each."""
        total = torch.zeros_like(self._operator.like)
        if not self.halved:
            for rows, part in zip(self._filled(len(weights)), weights.split(self._rows), strict=True):
                total.addmv_(rows.T, part)
            return total
        rounded = weights.clone()
        for index in self._whole.keys() & range(len(weights)):
            total.add_(self._whole[index] * weights[index])
            rounded[index] = 0.0
        for part, rows in self._widened(len(weights)):
            total[part].addmv_(rows.T, rounded)
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
        for part in self._slices():
            old = torch.cat([rows[:, part] for rows in self._filled(kept)]).to(follower.dtype)
            for index in self._whole.keys() & range(kept):
                old[index] = self._whole[index][part]
            for index, row in enumerate(rotation.T @ old):
                self._chunks[index // self._rows][index % self._rows][part] = row
        self._count = new
        self._chunks = self._chunks[: new // self._rows + 1]
        self._whole = {}
        self.append(follower)

    def _widened(self, count: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield some columns of the first rows at a time, as numbers that can be computed with."""
        dtype = self._operator.like.dtype
        for part in self._slices():
            yield part, torch.cat([rows[:, part].to(dtype) for rows in self._filled(count)])

    def _slices(self) -> Iterator[slice]:
        """Yield all columns, some at a time: no second basis is ever held."""
        length = part_length(self._operator.like)
        for begin in range(0, self._operator.like.numel(), length):
            yield slice(begin, begin + length)

    def _filled(self, count: int) -> Iterator[Tensor]:
        left = count
        for chunk in self._chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return
