"""What is known about batch sizes of a training: plain numbers, each with its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from unstuck.batch.course import Course
from unstuck.estimate import Estimate
from unstuck.measurements.records import Order

# With fewer updates than this momentum has hardly set in and the noise has hardly been met. What is good for the
# whole run may be a larger size; and small rates are ahead where the noise is great, large ones where it is not.
LONG = 30


@dataclass(frozen=True)
class Scale:
    r"""A gradient noise scale in examples: the batch size at which noise and signal of a batch's gradient are equal.

    Attributes:
        estimate: Value and standard error; None where the mean gradient is not told from zero, so that there is no
            value.
        low: Lower end of the 95 % interval; 0 where nothing is known.
        high: Upper end; infinite where the mean gradient may be zero.
    """

    estimate: Estimate | None
    low: float
    high: float


@dataclass(frozen=True)
class Layer:
    """The noise scale of one parameter tensor."""

    name: str
    parameters: int
    scale: Scale


@dataclass(frozen=True)
class Noise:
    r"""Noise of a batch's gradient at the present parameters.

    Attributes:
        simple: $\mathrm{tr}\,\Sigma / |G|^2$.
        curved: $\mathrm{tr}(H\Sigma) / (G^\top H G)$; None where it was not measured.
        metric: $\mathrm{tr}(P\Sigma) / (G^\top P G)$ with P the optimizer's own metric; None where that is none.
        layers: The simple one of each parameter tensor.
        signal: $|G|^2$.
        variance: $\mathrm{tr}\,\Sigma$, per example.
        examples: How many it was measured on.
        piece: Examples of the pieces whose gradients were compared.
        whole: Whether these were all the data.
        separable: Whether a batch's gradient is the mean of its examples'.
        omitted: Why something is missing.
        singly: Why the gradients were taken one by one; empty where many at a time.
        decayed: Whether G holds weight decay, as part of what the optimizer descends on; the noise holds none.
    """

    simple: Scale
    curved: Scale | None
    metric: Scale | None
    layers: tuple[Layer, ...]
    signal: Estimate
    variance: Estimate
    examples: int
    piece: int
    whole: bool
    separable: bool
    omitted: tuple[str, ...] = ()
    singly: str = ""
    decayed: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds of one update at one size, forward, backward and step, without loading the data.

    Attributes:
        size: Examples of a batch.
        seconds: The median.
        low: Lower end of the median's 95 % interval.
        high: Upper end.
        memory: Bytes that an update is predicted to need beyond parameters and optimizer state.
        count: Updates that were timed.
    """

    size: int
    seconds: float
    low: float
    high: float
    memory: int
    count: int


@dataclass(frozen=True)
class Loading:
    """Seconds that the data take to give one example, by the median over batches, with its 95 % interval.

    Attributes:
        first: Seconds to the first batch, in which workers are started.
        beside: Whether other processes load while updates are made.
    """

    first: float
    beside: bool
    example: float
    low: float
    high: float


@dataclass(frozen=True)
class Clock:
    """Time per update against batch size.

    Attributes:
        timings: By size.
        grows_from: The size from which time per update grows; None where it does not within the sizes tried.
        limit: Why no larger size was timed.
        threads: Of the processor, that PyTorch works with.
        device: Where the model is.
    """

    timings: tuple[Timing, ...]
    grows_from: int | None
    limit: str
    threads: int
    device: str


@dataclass(frozen=True)
class Fit:
    r"""$S(B) = S_{min} (1 + B_{crit} / B)$ through the updates that branches took to a loss.

    Attributes:
        critical: $B_{crit}$: the size at which twice the fewest updates are needed, and twice the fewest examples.
        low: Lower end of its 95 % interval.
        high: Upper end; infinite where the updates still fall in proportion at the largest size.
        fewest: $S_{min}$.
    """

    critical: float
    low: float
    high: float
    fewest: float

    def updates(self, size: int) -> float:
        """Give S(B)."""
        return self.fewest * (1.0 + self.critical / size)


@dataclass(frozen=True)
class Option:
    """What one batch size comes to.

    Attributes:
        size: Examples.
        factor: The best multiple of the run's learning rate that was found.
        updates: To the loss, by the branches; None where none of them got there.
        seconds: The same in seconds on this machine, loading included, with its error; None where that is not known.
        predicted: Updates by the fit.
        loss: Where the branches of its best rate ended, on the held batches of the training data.
        validation: The same on the validation data; None where there are none.
    """

    size: int
    factor: float
    updates: Estimate | None
    seconds: Estimate | None
    predicted: float | None
    loss: float | None = None
    validation: float | None = None

    @property
    def examples(self) -> float | None:
        """Examples drawn from the data on the way."""
        return self.updates.value * self.size if self.updates else None


@dataclass(frozen=True)
class WrongRate:
    """A learning rate far from the one that suits the run, at the run's own size.

    Attributes:
        factor: The multiple of it that is best.
        level: Where the run's own comes to, or half or twice of it; the best one's lowest loss where those only rise.
        updates: To that loss with the best rate.
        near: Updates with the run's own rate; infinite where it only rises.
        anew: Whether both were begun with weights made anew, where the best one overtakes all that goes on from where
            the run stands.
        after: Updates that both were followed for; infinite where the run's own rate is thrown out for good.
    """

    factor: float
    level: float
    updates: float
    near: float
    anew: bool
    after: float

    @property
    def settled(self) -> bool:
        """Whether they were followed for long enough."""
        return self.after >= LONG


class Answer(StrEnum):
    """What the comparison comes to."""

    RECOMMENDED = "recommended"
    WRONG_RATE = "wrong-rate"
    NOT_RESOLVED = "not-resolved"


@dataclass(frozen=True)
class Decision:
    """What size to take.

    Attributes:
        answer: Whether one is recommended.
        reason: Why not, in one sentence; where one is, what to bear in mind, or "".
        low: The smallest of the recommended sizes; None where none is.
        high: The largest.
        best: That with the shortest time.
        level: The loss that times are to.
        options: What each size that was tried comes to.
        fit: None where the branches do not bear one.
        lossless: The largest size whose loss at equal examples is not surely higher than at the run's own.
        rate: The best multiple of the run's learning rate at the run's own size; None where no branch was made.
    """

    answer: Answer
    reason: str
    low: int | None = None
    high: int | None = None
    best: int | None = None
    level: float | None = None
    options: tuple[Option, ...] = ()
    fit: Fit | None = None
    lossless: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Sizing:
    """Everything that was measured about batch sizes of a training, and what follows.

    Attributes:
        present: The run's own size.
        examples: Of all the data; None where that is not known.
        rule: How the learning rate goes with the size for this optimizer: "linear" or "square root".
        optimizer: Its name; empty without one.
        rates: Its learning rates.
        clock: Time per update; None where it could not be measured.
        loading: Time to load; None where all comes in one batch.
        noise: None where no gradient could be compared.
        course: The branches; None where there were none.
        decision: What follows.
        order: Whether the batches could have been drawn at random; None where that cannot be told.
        omitted: What was left out, and why.
        gradients: What it cost, in gradients of a batch of the present size.
        seconds: What it took.
        interrupted: Ctrl-C ended it; this is what was known by then.
    """

    present: int
    examples: int | None
    rule: str
    optimizer: str
    rates: tuple[float, ...]
    clock: Clock | None
    loading: Loading | None
    noise: Noise | None
    course: Course | None
    decision: Decision
    order: Order | None
    omitted: tuple[str, ...]
    gradients: float
    seconds: float
    interrupted: bool = False


def seconds_per_update(timings: Sequence[Timing], loading: Loading | None) -> dict[int, float]:
    """Give the seconds of an update of each size with the loading of its batch, side by side where workers load."""
    return {timing.size: _with(timing, loading) for timing in timings}


def _with(timing: Timing, loading: Loading | None) -> float:
    if loading is None:
        return timing.seconds
    load = loading.example * timing.size
    return max(timing.seconds, load) if loading.beside else timing.seconds + load
