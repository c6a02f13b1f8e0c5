"""The loss over a fixed sample of batches as a function of one flat vector."""

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from unstuck import journal, processes
from unstuck.errors import TrainingError
from unstuck.objective import ledger as price
from unstuck.objective.decay import decay_coefficients
from unstuck.objective.differences import Step
from unstuck.objective.graphs import Kept
from unstuck.objective.ledger import Ledger
from unstuck.objective.products import Products
from unstuck.objective.replay import Replay
from unstuck.objective.sampling import Batch, moved, tensors
from unstuck.objective.trust import doubles, examine
from unstuck.space import Space
from unstuck.training import Training


class Objective:
    r"""$L(\theta) = \sum_i w_i L_i(\theta) + \frac12 \theta^\top (c \odot \theta)$ over a sample of batches.

    $L_i$ is the user's loss on batch $i$, $w_i$ its share of the examples, $c$ the weight decay that the
    optimizer applies. The same $\theta$ always gives the same value: dropout is replayed, BatchNorm runs in
    the mode the model is in and its running statistics start anew at each evaluation. The model itself is
    never changed.

    Args:
        training: What the user brought.
        batches: The sample.
        dtype: Compute in this type throughout (float64, to see what float32 cannot); by default in the
            parameters' own types, with $\theta$ kept in float32 at least.
        ledger: Where to count what is spent.
        thawed: Names of frozen parameters that belong to $\theta$ all the same.
        among: Patterns of names: $\theta$ is what they match, everything else is held fixed.

    Raises:
        TrainingError: The loss cannot be evaluated; the message says why.
    """

    def __init__(
        self,
        training: Training,
        batches: Sequence[Batch],
        *,
        dtype: torch.dtype | None = None,
        ledger: Ledger | None = None,
        thawed: AbstractSet[str] = frozenset(),
        among: Sequence[str] = (),
    ) -> None:
        self.replay = Replay(training, dtype=dtype, ledger=ledger or Ledger(), thawed=thawed, among=among)
        self.parameters = self.replay.parameters
        self._dtype = dtype
        self.batches = self._moved(batches)
        self.examples = sum(batch.examples for batch in batches)
        self.weights = tuple(batch.examples / self.examples for batch in batches)
        self.ledger = self.replay.ledger
        self.decay = decay_coefficients(training.optimizer, self.parameters)
        self._autograd_error: float | None = None
        self._step: Step | None = None  # that differences were last made with
        self._digests: dict[int, str] = {}
        self.theta = self.parameters.current()
        if not self.space.finite(self.theta):
            raise TrainingError(_name_non_finite(self.replay))
        self.replay.check(self.batches[0])

    @property
    def differentiable_twice(self) -> bool:
        """Whether autograd can differentiate the loss twice; if not, differences of gradients stand in."""
        if self._autograd_error is None:
            self._examine(self.batches[0], self.theta)
        return self._autograd_error != math.inf

    @cached_property
    def stochastic(self) -> bool:
        """Whether the loss draws random numbers (dropout and the like): another seed gives another value."""
        if self.replay.fixed:
            return False
        first = self.batches[0]
        seeds = (first.seed, first.seed + 104_729, first.seed + 1_299_709)
        with self.replay.session():
            batches = [replace(first, seed=seed) for seed in seeds]
            return len({self.replay.value(batch, self.theta) for batch in batches}) > 1

    @property
    def space(self) -> Space:
        """Where its flat vectors live: every inner product of theirs is taken there."""
        return self.parameters.space

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.parameters.size

    def beyond(self, batches: Sequence[Batch]) -> "Objective":
        """Give the same loss with further batches behind those of the sample, to be named by their indices.

        Weights stay shares of the sample, of which the further batches are no part.
        """
        wider = copy(self)
        wider.batches = (*self.batches, *self._moved(batches))
        wider.weights = (*self.weights, *(batch.examples / self.examples for batch in batches))
        return wider

    @property
    def bare(self) -> "Objective":
        """The same loss without weight decay: the one that a run reports."""
        bare = copy(self)
        bare.decay = None
        return bare

    def value(self, theta: Float[Tensor, " n"]) -> float:
        """Evaluate the loss; infinite where it overflows or is not a number."""
        values = self.values(theta)
        return math.fsum(weight * value for weight, value in zip(self.weights, values, strict=True))

    def values(self, theta: Float[Tensor, " n"], only: Sequence[int] | None = None) -> list[float]:
        """Evaluate each batch's loss, weight decay included; `only` some of the batches, by index."""
        penalty = self.penalty(theta)
        with self.replay.session(values=True):
            return [self._value(batch, theta) + penalty for batch in self._counted(only, price.VALUE)]

    def gradient(self, theta: Float[Tensor, " n"], only: Sequence[int] | None = None) -> Float[Tensor, " n"]:
        """Evaluate the gradient, over all batches or `only` some of them."""
        return self.value_and_gradient(theta, only)[1]

    def value_and_gradient(
        self, theta: Float[Tensor, " n"], only: Sequence[int] | None = None, *, decayed: bool = True
    ) -> tuple[float, Float[Tensor, " n"]]:
        """Evaluate the loss and its gradient together, over all batches or `only` some of them.

        `decayed` says whether weight decay counts; an optimizer adds it by itself.
        """
        total = torch.zeros_like(theta)
        value = self.penalty(theta) if decayed else 0.0
        indices = range(len(self.batches)) if only is None else only
        share = math.fsum(self.weights[index] for index in indices)
        with self.replay.session():
            for index in indices:
                loss, gradient = self._differentiate(index, theta)
                value += loss * self.weights[index] / share
                total.add_(gradient, alpha=self.weights[index] / share)
        return value, total if self.decay is None or not decayed else total.addcmul_(self.decay, theta)

    def batch_gradients(
        self, theta: Float[Tensor, " n"], only: Sequence[int] | None = None
    ) -> Iterator[tuple[float, Float[Tensor, " n"]]]:
        """Evaluate the loss and the gradient of each batch in turn, weight decay included."""
        penalty = self.penalty(theta)
        for index in range(len(self.batches)) if only is None else only:
            # One session a batch: between two results the model is the user's own again.
            with self.replay.session():
                loss, flat = self._differentiate(index, theta)
            yield loss + penalty, flat if self.decay is None else flat.addcmul_(self.decay, theta)

    def products(
        self, theta: Float[Tensor, " n"], only: Sequence[int] | None = None, *, memory: float = math.inf
    ) -> Products:
        """Prepare Hessian-vector products at `theta`, keeping graphs of at most `memory` bytes."""
        indices = range(len(self.batches)) if only is None else only
        batches = [self.batches[index] for index in indices]
        first = self._examine(batches[0], theta) if self._autograd_error is None else None
        assert self._autograd_error is not None  # noqa: S101  # as was just made sure
        made = Products(
            self.replay,
            batches,
            theta,
            decay=self.decay,
            memory=memory,
            error=self._autograd_error,
            first=first,
            known=self._step,
            digest=journal.digest(self._digest_of(batches), theta) if journal.current() else "",
        )
        self._step = made.step
        return made

    def quotients(
        self, theta: Float[Tensor, " n"], direction: Float[Tensor, " n"], only: Sequence[int] | None = None
    ) -> list[float]:
        r"""Evaluate $v^\top H_i v / v^\top v$ for each batch $i$."""
        with self.products(theta, only, memory=0.0) as products:
            return products.quotients(direction)

    def forms(
        self,
        theta: Float[Tensor, " n"],
        vectors: Sequence[Float[Tensor, " n"]],
        only: Sequence[int] | None = None,
    ) -> Float[Tensor, "b k k"]:
        r"""Evaluate $v_j^\top H_i v_k$ for each batch $i$ and each two of some vectors, in float64."""
        with self.products(theta, only, memory=0.0) as products:
            return products.forms(vectors)

    def digest(self) -> str:
        """Name all that its value at `theta` depends on, but for weight decay."""
        return journal.digest(self._digest_of(self.batches), self.theta)

    def penalty(self, theta: Float[Tensor, " n"]) -> float:
        r"""Evaluate weight decay's part of the loss, $\frac12 \theta^\top (c \odot \theta)$."""
        if self.decay is None:
            return 0.0
        return 0.5 * self.space.dot(self.decay.double(), theta.double().square())

    def _moved(self, batches: Sequence[Batch]) -> tuple[Batch, ...]:
        device = self.parameters.device
        return tuple(replace(batch, content=moved(batch.content, device, self._dtype)) for batch in batches)

    def _examine(self, batch: Batch, theta: Float[Tensor, " n"]) -> Kept | None:
        """Learn whether autograd is to be trusted, once; give the graph that was made for it."""
        held, first = journal.current(), None

        def make() -> float:
            nonlocal first
            examined = examine(self.replay, batch, theta)
            first = examined.first
            error = processes.agreed(examined.error)
            if error < math.inf:
                works = all(doubles(self.replay, other, theta) for other in self._odd(batch))
                error, first = (error, first) if processes.every(true=works) else (math.inf, None)
            return error

        named = f"trust {journal.digest(self._digest_of([batch]), theta)}" if held else ""
        self._autograd_error = held.numbers(named, make) if held else make()
        return first

    def _odd(self, batch: Batch) -> list[Batch]:
        """The smallest and the largest batch, if of another size than this: kernels are chosen by size."""
        by_size = {
            other.examples: other for other in reversed(self.batches) if other.examples != batch.examples
        }
        return [by_size[size] for size in {min(by_size), max(by_size)}] if by_size else []

    def _differentiate(self, index: int, theta: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        batch = self.batches[index]
        self.ledger.spend(price.GRADIENT, batch.examples)
        held = journal.current()
        if held is None:
            return self.replay.gradient(batch, theta)

        def make() -> dict[str, Tensor]:
            loss, gradient = self.replay.gradient(batch, theta)
            return {"loss": torch.tensor(loss, dtype=torch.float64), "gradient": gradient}

        made = held.tensors(journal.digest("gradient", self._digest_of([batch]), theta), make)
        return float(made["loss"]), made["gradient"].to(theta.device)

    def _value(self, batch: Batch, theta: Float[Tensor, " n"]) -> float:
        held = journal.current()
        if held is None:
            return self.replay.value(batch, theta)

        def make() -> dict[str, Tensor]:
            return {"loss": torch.tensor(self.replay.value(batch, theta), dtype=torch.float64)}

        kind = "value, fused" if self.replay.fused else "value"
        return float(held.tensors(journal.digest(kind, self._digest_of([batch]), theta), make)["loss"])

    def _digest_of(self, batches: Sequence[Batch]) -> str:
        """Name what a loss on these batches depends on, but for the point."""
        for batch in batches:
            if id(batch) not in self._digests:
                content = batch.content
                named = journal.digest(content, list(tensors(content)), batch.examples, batch.seed)
                self._digests[id(batch)] = named
        return journal.digest(self._digest, [self._digests[id(batch)] for batch in batches])

    @cached_property
    def _digest(self) -> str:
        names = [slot.name for slot in self.parameters.slots]
        training = self.replay.training
        return journal.digest(journal.digest_of(training.model, training.loss), names, str(self.theta.dtype))

    def _counted(self, only: Sequence[int] | None, cost: float) -> Iterator[Batch]:
        for index in range(len(self.batches)) if only is None else only:
            batch = self.batches[index]
            self.ledger.spend(cost, batch.examples)
            yield batch


def _name_non_finite(replay: Replay) -> str:
    slots = replay.parameters.slots
    broken = {slot.name for slot in slots if not bool(slot.here.isfinite().all())}
    broken = set[str]().union(*processes.gathered(broken))
    first = next(slot.name for slot in slots if slot.name in broken)
    return (
        f"`model` has NaN or Inf in {len(broken)} parameter tensors, first `{first}`: "
        "start from an earlier checkpoint"
    )
