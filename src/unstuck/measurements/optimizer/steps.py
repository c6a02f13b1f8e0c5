"""The steps that the optimizer would take next, taken on copies."""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from unstuck import processes
from unstuck.errors import MeasurementError, UnstuckError
from unstuck.objective import Objective
from unstuck.objective.sampling import one_line
from unstuck.objective.shards import local
from unstuck.optim.closures import step_with_gradients, wants_closure

# What a scheduler puts on an optimizer: a `step` that counts the user's own steps.
_SCHEDULERS = {"step", "_opt_called"}

# What `clip_grad_norm_` adds to a norm.
_BESIDE_ZERO = 1e-6

# What optimizers call the lengths of steps that they keep: Rprop and ASGD.
LENGTHS = ("step_size", "eta")

State = dict[str, Any]
Slope = tuple[float, Float[Tensor, " n"]]
Evaluate = Callable[[Float[Tensor, " n"]], Slope]


def copied(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """Copy an optimizer with all that it holds; `memo` has the copies of its parameters, by their `id`."""
    made = copy.deepcopy(optimizer, memo)
    # That holds its state and groups alone; LBFGS and strangers' ones keep more.
    for name in vars(optimizer).keys() - vars(made).keys() - _SCHEDULERS:
        with contextlib.suppress(Exception):  # a logger or a lock, which no step needs
            vars(made)[name] = copy.deepcopy(vars(optimizer)[name], memo)
    return made


class Twin:
    """A copy of the optimizer, with its state, that moves a copy of the parameters.

    It has no hooks: neither those of a scheduler nor the user's. An optimizer of another model moves nothing.

    Args:
        objective: Whose parameters.
        optimizer: What is copied.
        dtype: Of the copied parameters and of all floating state; by default their own.

    Attributes:
        objective: Whose parameters these are copies of.
        copies: One leaf tensor for each of the objective's slots, which the steps move.
        optimizer: The copy that moves them.
        value: The loss of the last step's batches, before the step.
        slope: Norm of their gradient.
        clip: Longest gradient; longer ones are shortened to it, as `clip_grad_norm_` does.

    Raises:
        MeasurementError: The optimizer, a stranger's, cannot be copied.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, dtype: torch.dtype | None = None) -> None:
        self.objective = objective
        self.value = self.slope = math.nan
        self._dtype = dtype or objective.theta.dtype
        clip = objective.replay.training.clip
        self.clip = math.inf if clip is None else clip
        slots = objective.parameters.slots
        self.copies = [
            slot.parameter.detach().to(dtype or slot.parameter.dtype, copy=True).requires_grad_()
            for slot in slots
        ]
        memo: dict[int, Any] = {
            id(slot.parameter): copied for slot, copied in zip(slots, self.copies, strict=True)
        }
        # What is held fixed gets no gradient, and stays where it is, wherever that is.
        held = {p for group in optimizer.param_groups for p in group["params"] if id(p) not in memo}
        memo |= {id(parameter): torch.zeros_like(parameter.detach()).requires_grad_() for parameter in held}
        with _of_strangers("be copied"):
            self.optimizer = copied(optimizer, memo)
        self._sparse = isinstance(self.optimizer, torch.optim.SparseAdam)  # takes no other gradients
        for state in self.states() if dtype else ():
            for key, value in state.items():
                state[key] = tree_map(self._cast, value)  # LBFGS keeps lists of tensors

    def rates(self) -> list[float]:
        """The learning rates of the groups that have one."""
        return [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]

    def states(self) -> list[State]:
        """The copied state of each parameter, to be changed at will."""
        return [cast("State", self.optimizer.state.get(parameter, {})) for parameter in self.copies]

    @contextmanager
    def scaled(self, factor: float, least: Sequence[float] = ()) -> Generator[None]:
        """Multiply the rates for the length of a block, and the lengths of steps that an optimizer keeps.

        Args:
            factor: What they are multiplied by.
            least: Rates below which those of the groups do not fall before that; none: wherever they are.
        """
        groups = [group for group in self.optimizer.param_groups if "lr" in group]
        rates = [group["lr"] for group in groups]
        held = [max(*pair) for pair in zip(rates, least, strict=True)] if least else rates
        if factor == 1.0 and held == rates:
            yield
            return
        for group, rate in zip(groups, held, strict=True):
            group["lr"] = rate * factor
        self.scale_lengths(factor)
        yield
        self.scale_lengths(1.0 / factor)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def scale_lengths(self, factor: float) -> None:
        """Multiply the lengths of steps that are kept of each parameter: the rate is but what they began with.

        Rprop keeps one for each number, within bounds that are lengths as well. ASGD lets its one length decay by the
        product of rate and `lambd`, which is left as it is: at a higher rate alone the steps would be shorter in the
        end.
        """
        for state, key in itertools.product(self.states(), LENGTHS):
            if isinstance(lengths := state.get(key), Tensor):
                state[key] = lengths * factor
        for group in self.optimizer.param_groups:
            if isinstance(self.optimizer, torch.optim.ASGD):
                group["lambd"] = group["lambd"] / factor
            elif isinstance(self.optimizer, torch.optim.Rprop):
                group["step_sizes"] = tuple(factor * bound for bound in group["step_sizes"])

    def step(self, only: Sequence[int], known: Slope | None = None) -> Float[Tensor, " n"]:
        """Take one step on the batches `only`, and give the displacement from the point since the beginning.

        Args:
            only: The batches, by index.
            known: Their loss and gradient where the copy stands, without weight decay, if they are known already.

        Raises:
            MeasurementError: The optimizer, a stranger's, cannot take a step.
        """
        ahead = [known] if known else []
        self.step_by(
            lambda theta: (
                ahead.pop() if ahead else self.objective.value_and_gradient(theta, only, decayed=False)
            )
        )
        return self._displacement()

    def step_by(self, evaluate: Evaluate) -> None:
        """Take one step on the loss and the gradient that `evaluate` gives of a flat vector.

        Raises:
            MeasurementError: The optimizer, a stranger's, cannot take a step.
        """
        parameters = self.objective.parameters

        def closure() -> float:
            value, gradient = evaluate(self.theta())
            self.value, self.slope = value, self.objective.space.norm(gradient)
            if self.clip < math.inf:
                gradient = min(1.0, self.clip / (self.slope + _BESIDE_ZERO)) * gradient
            triples = zip(self.copies, parameters.slots, parameters.pieces(gradient), strict=True)
            for parameter, slot, piece in triples:
                whole = slot.whole(piece.to(parameter.device, parameter.dtype))
                parameter.grad = whole.to_sparse(1) if self._sparse else whole
            return value

        with torch.enable_grad(), _of_strangers("take a step on copies"):
            if wants_closure(self.optimizer):
                processes.together(lambda: self.optimizer.step(closure))
            else:
                closure()
                processes.together(lambda: step_with_gradients(self.optimizer, closure))

    def theta(self) -> Float[Tensor, " n"]:
        """Give the copied parameters as a flat vector."""
        return self.objective.parameters.flatten(self.copies)

    def walk(self, order: Sequence[int]) -> Float[Tensor, " n"]:
        """Take one step on each batch of `order`, and give the displacement."""
        return [self.step([index]) for index in order][-1]

    def _displacement(self) -> Float[Tensor, " n"]:
        """Subtract in the type of the copies, or of the flat vector, which is no narrower."""
        parameters = self.objective.parameters
        pairs = zip(self.copies, parameters.slots, strict=True)
        moved = [self._cast(local(copied.detach())) - self._cast(slot.here) for copied, slot in pairs]
        return torch.cat([piece.reshape(-1).to(parameters.device) for piece in moved])

    def _cast(self, value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().to(self._dtype) if floating else value


@contextmanager
def _of_strangers(deed: str) -> Generator[None]:
    try:
        yield
    except UnstuckError:
        raise
    except Exception as error:
        msg = f"`optimizer` cannot {deed}: {one_line(error)}"
        raise MeasurementError(msg) from error


def next_step(
    objective: Objective,
    optimizer: Optimizer,
    only: Sequence[int],
    known: Slope | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, " n"]:
    """Displacement by the optimizer's next step on the batches `only`, whose loss and slope may be `known`."""
    return Twin(objective, optimizer, dtype).step(only, known)
