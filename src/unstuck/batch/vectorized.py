"""Gradients of many pieces out of one forward and one backward pass, or the reason why not.

`vmap` evaluates the user's own loss on every piece by itself, whatever it does with a batch: what the examples of
different pieces have to do with each other cannot come in. Weights of known layers are tapped; every other parameter
is given to each piece as a copy of its own. What the model does with a tapped weight beside its layer is seen, since
it gives a gradient. The first time, two pieces are evaluated by themselves too, and compared.
"""

import math
import re
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from unstuck import processes
from unstuck.batch.pool import Pieces
from unstuck.batch.shares import Rows, Share
from unstuck.batch.taps import Tapping
from unstuck.errors import MeasurementError, UnstuckError
from unstuck.objective import Batch, Objective
from unstuck.objective import ledger as price
from unstuck.objective.sampling import mapped, reason

# As many at a time as take so many seconds, so that it can be ended; with small networks, overhead is what costs.
_SECONDS, _FEWEST, _MOST = 1.0, 16, 512

# Of what a graph saves, so much is needed to go back through it, with what is kept of it; and of a copy's gradient.
_GRAPH, _COPY = 3.0, 4.0

_FALLBACK = "There is a performance drop"


@dataclass(frozen=True)
class Gradients:
    """Of some pieces, in the order in which they were asked for.

    Attributes:
        losses: Of each; infinite where it is not finite.
        shares: Those by some parameters, by the number of the slot; all others are zero.
    """

    losses: Float[Tensor, " m"]
    shares: dict[int, Share]


class Vectorized:
    """Evaluates many pieces at a time; only inside a session.

    Raises:
        MeasurementError: They cannot be evaluated together; the message says why.
    """

    def __init__(self, objective: Objective, pieces: Pieces, memory: float) -> None:
        self._objective, self._pieces = objective, pieces
        self._replay = objective.replay
        _check(objective)
        self._first = pieces[0]
        self._leaves = self._replay.leaves(objective.theta)
        self._numbers = {id(leaf): number for number, leaf in enumerate(self._leaves)}
        begun = time.perf_counter()
        with _reasons():
            saved = self._try_one()
        self._seconds = time.perf_counter() - begun
        copied = sum(leaf.nbytes for number, leaf in enumerate(self._leaves) if number not in self._tapped)
        self._room = int(min(memory / max(_GRAPH * saved + _COPY * copied, 1.0), _MOST))
        if self._room < 2:  # noqa: PLR2004
            msg = "there is no room for two at a time"
            raise MeasurementError(msg)
        self._compared = False

    @property
    def most(self) -> int:
        """How many at a time."""
        return min(self._room, max(int(_SECONDS / self._seconds), _FEWEST))

    def __call__(self, numbers: Sequence[int]) -> Gradients:
        """Evaluate these pieces.

        Raises:
            MeasurementError: They cannot be evaluated together; the message says why.
        """
        begun = time.perf_counter()
        with _reasons(), _no_fallback():
            found = self._differentiated(numbers)
        self._seconds = (time.perf_counter() - begun) / len(numbers)
        if not self._compared:
            self._compare(numbers, found)
            self._compared = True
        return found

    def _try_one(self) -> float:
        """Evaluate the first piece by itself: which weights can be tapped, and the bytes that a graph saves."""
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        counting = Tapping(self._numbers)
        with counting, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self._replay.loss(self._first, self._leaves)
        found = torch.autograd.grad(loss, self._leaves, allow_unused=True, materialize_grads=True)
        self._own = self._replay.parameters.flatten(found)
        self._objective.ledger.spend(price.GRADIENT, self._pieces.size)
        self._tapped = {number for number, uses in counting.uses.items() if uses == 1}
        model = self._replay.training.model
        # What is there once, however many pieces there are.
        for tensor in (*model.parameters(), *model.buffers()):
            storages.pop(tensor.untyped_storage().data_ptr(), None)
        return float(sum(storages.values()))

    def _differentiated(self, numbers: Sequence[int]) -> Gradients:
        while True:
            found, beside = self._once(numbers)
            if not beside:
                return found
            self._tapped -= beside

    def _once(self, numbers: Sequence[int]) -> tuple[Gradients, set[int]]:
        """Evaluate; and give the tapped weights that the model makes some other use of, beside."""
        self._objective.ledger.spend(price.GRADIENT, len(numbers) * self._pieces.size)
        shares: dict[int, Share] = {}
        leaves = [
            leaf if number in self._tapped else _copies(leaf, len(numbers))
            for number, leaf in enumerate(self._leaves)
        ]
        places = [None if number in self._tapped else 0 for number in range(len(leaves))]
        parts, dims = self._split(self._pieces.together(numbers), len(numbers))

        slots = {leaf: number for leaf, number in self._numbers.items() if number in self._tapped}
        tapping = Tapping(slots, shares.__setitem__)

        def loss(leaves: list[Tensor], parts: list[Tensor], lane: Tensor) -> Tensor:
            given = iter(parts)
            tapping.lane = lane
            content = mapped(self._first.content, lambda item: next(given) if _is_tensor(item) else item)
            value = self._replay.loss(Batch(content, self._pieces.size, self._first.seed), leaves)
            return value.reshape(())

        with tapping:
            lanes = torch.zeros(len(numbers), device=self._objective.theta.device)
            losses = vmap(loss, (places, dims, 0))(leaves, parts, lanes)
        grads = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        found = cast("Sequence[Tensor | None]", grads)
        beside = {number for number in self._tapped if found[number] is not None}
        for number, gradient in enumerate(found):
            if number not in self._tapped and gradient is not None:
                shares[number] = Rows(gradient.reshape(len(numbers), -1))
        values = losses.detach()
        return Gradients(values.where(values.isfinite(), math.inf), shares), beside

    def _split(self, together: Batch, count: int) -> tuple[list[Tensor], list[int | None]]:
        """Take apart what the pieces hold, and say what each has of its own.

        Raises:
            MeasurementError: They differ in something that is no tensor.
        """
        one, all_of_them = _leaves(self._first.content), _leaves(together.content)
        if len(one) != len(all_of_them):
            kinds = {type(leaf).__name__ for leaf in one if not _is_tensor(leaf)} or {"tensor"}
            msg = f"batches hold lists with a {' or '.join(sorted(kinds))} for each example"
            raise MeasurementError(msg)
        parts: list[Tensor] = []
        dims: list[int | None] = []
        for own, whole in zip(one, all_of_them, strict=True):
            if not _is_tensor(own):
                if own is not whole and not (isinstance(own, _CONSTANTS) and own == whole):
                    msg = f"batches hold {type(own).__name__} beside tensors"
                    raise MeasurementError(msg)
                continue
            same = own.shape == whole.shape
            parts.append(whole if same else whole.unflatten(0, (count, self._pieces.size)))
            dims.append(None if same else 0)
        return parts, dims

    @torch.no_grad()
    def _compare(self, numbers: Sequence[int], found: Gradients) -> None:
        """Compare the first piece, and the one with the largest loss, with what they are by themselves.

        To half the digits: other kernels round otherwise, but what is wrong is wrong from the first digit.
        """
        largest = int(found.losses.argmax())
        self._objective.ledger.spend(price.GRADIENT, self._pieces.size)
        with torch.enable_grad():
            value, gradient = self._replay.gradient(self._pieces[numbers[largest]], self._objective.theta)
        tolerance = math.sqrt(torch.finfo(self._objective.theta.dtype).eps)
        scale = float(gradient.norm())
        right = [abs(value - float(found.losses[largest])) <= tolerance * abs(value)]
        right += [
            float((self._one(found, index) - own).norm()) <= tolerance * max(scale, float(own.norm()))
            for index, own in ((numbers.index(0), self._own), (largest, gradient))
        ]
        if not all(right):
            msg = "they did not come out as one by one"
            raise MeasurementError(msg)

    def _one(self, found: Gradients, index: int) -> Float[Tensor, " n"]:
        pieces = [
            found.shares[number].one(index)
            if number in found.shares
            else leaf.detach().new_zeros(leaf.numel())
            for number, leaf in enumerate(self._leaves)
        ]
        return self._replay.parameters.flatten(pieces)


# Things that are what they are equal to.
_CONSTANTS = (str, bytes, int, float, type(None))


def _check(objective: Objective) -> None:
    """Look for what rules it out.

    Raises:
        MeasurementError: Something does.
    """
    replay = objective.replay
    refused = {
        "the model is on several processes": processes.count() > 1 or replay.parameters.sharded is not None,
        "the model writes on its parameters": replay.writes_parameters,
        "the loss draws random numbers": objective.stochastic,
    }
    for why, holds in refused.items():
        if holds:
            raise MeasurementError(why)


@contextmanager
def _reasons() -> Generator[None]:
    """Make a reason of whatever fails: if that is the loss itself, it fails one by one as well, and is told there."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, UnstuckError) else error
        why = reason(cause if isinstance(cause, Exception) else error)
        raise MeasurementError(
            why.split(". ")[0]
        ) from error  # what follows is advice to who wrote the kernel


@contextmanager
def _no_fallback() -> Generator[None]:
    """Refuse what `vmap` has no rule for and does one by one, no cheaper than we do.

    Its warnings are kept, not made errors: beside another error such a one could only be printed.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", _FALLBACK)
        yield
    for each in told:
        if re.match(_FALLBACK, str(each.message)):
            raise MeasurementError(str(each.message))
    for each in told:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _copies(leaf: Tensor, count: int) -> Tensor:
    """Give a parameter to each piece as its own, in the memory of one."""
    return leaf.detach().expand(count, *leaf.shape).requires_grad_()


def _is_tensor(item: object) -> bool:
    return isinstance(item, Tensor)


def _leaves(content: Any) -> list[Any]:
    """Give all of a batch that is not a container."""
    found: list[Any] = []
    mapped(content, found.append)
    return found
