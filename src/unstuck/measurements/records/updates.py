"""What was measured about the updates: whom they reach, what rounding and a stale scale leave of them."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Excluded:
    """Parameters that no update reaches, for one reason.

    Attributes:
        reason: "frozen" (requires_grad is False), "unlisted" (in no group of the optimizer), "unregistered" (and no
            parameter of the model either, as of layers in a Python list), "rate" (in a
            group whose learning rate is 0), "unreached" (no gradient comes to it, since it is detached), "stepped"
            (none but zeros comes to it, as a step function such as `round` ends it), "severed" (none comes to it,
            and none can be had, though the loss depends on it), "unmoved" (a gradient comes to it, and the
            optimizer's own steps leave it exactly where it is) or "unused" (no gradient comes to it, and none would).
        names: Of the parameter tensors, in the order of the model.
        scalars: How many numbers they hold.
    """

    reason: str
    names: tuple[str, ...]
    scalars: int


@dataclass(frozen=True)
class Wiring:
    """Which parameters are trained, and what those that are not could gain.

    Attributes:
        excluded: What is not trained, by reason.
        scalars: Numbers in all parameters, trained or not.
        excluded_gain: Decrease of the loss by a line search along the gradient of the excluded parameters,
            judged on the held-out half; None where nothing is excluded or no gradient can be had.
        trained_gain: The same along the gradient of the trained ones; 0 where there are none.
        extra: The first less the second, batch by batch.
        gains_in: Names of the excluded tensors by their share of the squared gradient, largest first.
        ends: Names of step functions that gradients end at.
        sway: By how much the loss of a batch changes when what is severed is displaced at random by its own length.
        scheduled: Whether a scheduler sets the learning rates.
        rate_share: The learning rate over the one that the schedule began with, of the group where that is least;
            None where no schedule has noted it.
        begun: False where a scheduler stands at its beginning and the optimizer has made no step.
        reason: Why the gains could not be measured, or "".
    """

    excluded: tuple[Excluded, ...]
    scalars: int
    excluded_gain: Estimate | None = None
    trained_gain: Estimate | None = None
    extra: Estimate | None = None
    gains_in: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    sway: Estimate | None = None
    scheduled: bool = False
    rate_share: float | None = None
    begun: bool = True
    reason: str = ""

    @property
    def left_out(self) -> tuple[Excluded, ...]:
        """What is not trained though the loss depends on it."""
        return tuple(group for group in self.excluded if group.reason != "unused")

    @property
    def share(self) -> float:
        """Share of the parameters that are not trained though the loss depends on them."""
        return sum(group.scalars for group in self.left_out) / max(self.scalars, 1)

    @property
    def nothing(self) -> bool:
        """Whether no parameter at all is trained."""
        return sum(group.scalars for group in self.excluded) == self.scalars

    @property
    def standing(self) -> bool:
        """Whether all that the optimizer has been given stands still: every learning rate of it is 0."""
        return self.nothing and "rate" in {group.reason for group in self.left_out}


@dataclass(frozen=True)
class Precision:
    """What rounding to the parameters' own type leaves of the optimizer's step.

    Attributes:
        dtype: Of the parameters, e.g. "bfloat16".
        lost: Share of the parameters with an exact update other than zero that rounding leaves as they are.
        length: Length of the rounded update over that of the exact one.
        cosine: Of the angle between both.
        steps: How many steps the gains were measured over, 0 if they were not.
        rounded_gain: Decrease of the loss by these steps as the optimizer takes them; None if not measured.
        exact_gain: The same with parameters, state and loss in float64.
        extra: The second less the first, batch by batch.
    """

    dtype: str
    lost: float
    length: float
    cosine: float
    steps: int = 0
    rounded_gain: Estimate | None = None
    exact_gain: Estimate | None = None
    extra: Estimate | None = None

    @property
    def kept(self) -> float:
        """What is left of the exact update along itself."""
        return self.length * self.cosine


@dataclass(frozen=True)
class SecondMoment:
    """The scale sigma that an adaptive optimizer divides by, beside the gradients it stands for.

    Attributes:
        optimizer: Class name.
        ratio: Natural logarithm of sigma over the present root mean square of batch gradients: the median
            over the parameters, weighted by that root mean square; its error by leaving out batches.
            None where it cannot be said.
        reason: Why there is no ratio, or "".
        steps: How many steps the gains were measured over, 0 if they were not.
        present_gain: Decrease of the loss by these steps as they are; None if not measured.
        fresh_gain: The same with sigma replaced by the present root mean square.
        extra: The second less the first, batch by batch.
        assumed: The optimizer is not one of PyTorch's; what is taken for its second moment is so by its name.
        added: The setting that puts into sigma what no gradient has made, "eps" or "initial_accumulator_value"; "" if
            none is known.
        added_share: Which share of sigma that is: the mean over the parameters, weighted by the present root mean
            square of their gradients.
    """

    optimizer: str
    ratio: Estimate | None
    reason: str = ""
    steps: int = 0
    present_gain: Estimate | None = None
    fresh_gain: Estimate | None = None
    extra: Estimate | None = None
    assumed: bool = False
    added: str = ""
    added_share: float | None = None


@dataclass(frozen=True)
class Momentum:
    """What a heavy ball remembers, beside the gradients that it stands for.

    Attributes:
        ratio: Its length over the largest that gradients of the present length could keep up.
        steps: How many steps the gains were measured over, 0 if they were not.
        present_gain: Decrease of the loss by these steps as they are; None if not measured.
        fresh_gain: The same with the momentum begun anew.
        extra: The second less the first, batch by batch.
    """

    ratio: float
    steps: int = 0
    present_gain: Estimate | None = None
    fresh_gain: Estimate | None = None
    extra: Estimate | None = None


@dataclass(frozen=True)
class Forgetting:
    """Weight decay that is quick, and what it undoes.

    Attributes:
        share: Of each weight that decay takes at each step.
        steps: How many steps the gains were measured over.
        present_gain: Decrease of the loss, decay apart, by these steps as they are.
        fresh_gain: The same without decay.
        extra: The second less the first, batch by batch.
    """

    share: float
    steps: int
    present_gain: Estimate
    fresh_gain: Estimate
    extra: Estimate


@dataclass(frozen=True)
class NonFinite:
    """Where NaN or Inf appears first.

    Attributes:
        place: "parameter", "buffer", "state" (of the optimizer), "data", "forward", "loss" or "gradient".
        name: Which one: of a parameter, a buffer, `key of parameter`, the tensor in the batch, or the module.
        kind: "NaN" or "Inf".
        batch: Index of the batch it was met in, or None.
        operation: The first operation that made it out of finite numbers, or None; of a gradient, the one
            whose derivative does.
        dtype: Of the tensor, e.g. "float16".
        overflow: The same operation on the same numbers is finite in float32: half precision overflowed.
        module: Of a gradient, where that operation is called, or None.
        of_infinities: The operation was given infinities, as masks leave them, and made NaN of them.
    """

    place: str
    name: str
    kind: str
    batch: int | None = None
    operation: str | None = None
    dtype: str = ""
    overflow: bool = False
    module: str | None = None
    of_infinities: bool = False
