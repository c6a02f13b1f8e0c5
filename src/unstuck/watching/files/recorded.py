"""A recorded run as it is read back: frozen records, thinned so that a run of any length fits on a screen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unstuck.estimate import Estimate

# "elsewhere": it was running when last heard of, on a host that cannot be asked from here.
State = Literal["running", "finished", "stopped", "killed", "elsewhere"]


@dataclass(frozen=True)
class Part:
    """Successive steps as one point of a curve.

    Attributes:
        first: The first step of it, counted from 1.
        last: The last one.
        time: When that was made, in seconds since the start.
        count: How many steps they are.
        mean: Of the losses that are known and finite.
        low: Least of them; of steps that were written down as means, least of the means.
        high: Greatest.
        rate: Mean learning rate of the first parameter group.
        missing: Rows with a loss that is NaN or infinite; in files that do not tell them apart, or is not known.
    """

    first: int
    last: int
    time: float
    count: int
    mean: float | None
    low: float | None
    high: float | None
    rate: float | None
    missing: int


@dataclass(frozen=True)
class Sampled:
    """Means over the samples of some successive steps; docs/run-store.md says what each column is.

    Attributes:
        step: Mean of their steps.
        count: How many samples.
        ratio: Mean of update norm over weight norm.
    """

    step: float
    count: int
    gradient_norm: float | None
    weight_norm: float | None
    update_norm: float | None
    ratio: float | None
    gradient_cosine: float | None
    descent_cosine: float | None
    sigma: float | None
    sigma_ratio: float | None
    unchanged: float | None
    steps_per_second: float | None
    overshoot: float | None


@dataclass(frozen=True)
class Scale:
    """The noise scale over some samples, in batches: mean noise over mean signal.

    Attributes:
        step: Mean of their steps.
        count: How many samples.
        value: None where the signal is not surely above zero: then there is only a lower bound.
        at_least: The noise over the greatest signal that the samples allow, two standard errors above its mean.
    """

    step: float
    count: int
    value: Estimate | None
    at_least: float


@dataclass(frozen=True)
class Layer:
    """One layer over the columns of a table; None where nothing is known."""

    name: str
    gradient_norms: tuple[float | None, ...]
    ratios: tuple[float | None, ...]


@dataclass(frozen=True)
class Layers:
    """All layers in the model's order, over the same steps."""

    steps: tuple[float, ...] = ()
    rows: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class ParameterGroup:
    """One of several parameter groups: its rate over the run, and its last sample."""

    number: int
    steps: tuple[float, ...]
    rates: tuple[float | None, ...]
    gradient_norm: float | None
    ratio: float | None


@dataclass(frozen=True)
class Glance:
    """One look at the live graph; see `unstuck.measurements.records.live.Look`.

    Attributes:
        rate: Learning rate of the first group at that step.
        judged: Curvature along the lowest Ritz vector, on other batches than the one it was found on.
    """

    step: int
    time: float
    seconds: float
    rate: float | None
    gradient_norm: float | None
    lambda_min: Estimate | None
    lambda_max: Estimate | None
    judged: Estimate | None
    top_share: float | None


@dataclass(frozen=True)
class Event:
    """Something that was said while the run went on: a stall, a finding, that the loss improves again, a note."""

    optimizer: int
    step: int
    time: float
    kind: str
    message: str
    document: Mapping[str, object]


@dataclass(frozen=True)
class Now:
    """What holds at the end of the record: medians over its last samples, of `overshoot` the mean.

    Attributes:
        samples: How many these are.
        window: Steps that the loss is the mean of.
        lowest: The least mean of so many successive steps.
        lowest_step: The last of these steps.
        steps_per_second: Over the last tenth of the run.
    """

    samples: int
    window: int
    loss: float | None
    lowest: float | None
    lowest_step: int | None
    rate: float | None
    steps_per_second: float | None
    gradient_norm: float | None
    weight_norm: float | None
    ratio: float | None
    gradient_cosine: float | None
    descent_cosine: float | None
    sigma_ratio: float | None
    unchanged: float | None
    overshoot: float | None
    noise: Scale | None


@dataclass(frozen=True)
class Course:
    """What one optimizer did.

    Attributes:
        steps: How many steps were recorded.
        seconds: When the last one was made, since the start.
        parameters: How many numbers it moves.
        cost: Seconds that its samples and looks took.
    """

    number: int
    name: str
    model: str | None
    parameters: int | None
    steps: int
    seconds: float
    cost: float
    now: Now
    curve: tuple[Part, ...]
    samples: tuple[Sampled, ...]
    noise: tuple[Scale, ...]
    layers: Layers
    groups: tuple[ParameterGroup, ...]
    looks: tuple[Glance, ...]


@dataclass(frozen=True)
class Recorded:
    """A run.

    Attributes:
        others: Other runs in the folder that was named, the newest first.
        about: What the file says of the run: script, arguments, host, pid, started, ...
        detail: How it ended, in the words of whatever ended it.
        begun: When, in seconds since the epoch.
        seconds: Age at the last row.
        events: In the order of time, the last ones if there are very many.
        left_out: How many events there are besides.
        optimizers: Those of most steps.
        optimizers_left_out: How many there are besides.
    """

    path: Path
    others: tuple[Path, ...]
    about: Mapping[str, str]
    state: State
    detail: str
    begun: float
    seconds: float
    optimizers: tuple[Course, ...]
    events: tuple[Event, ...]
    left_out: int
    optimizers_left_out: int = 0

    @property
    def steps(self) -> int:
        """Of several optimizers, of the one that made most."""
        return max(course.steps for course in self.optimizers)

    def told(self, optimizer: int) -> tuple[Event, ...]:
        """What was said of one optimizer's loss."""
        return tuple(
            event
            for event in self.events
            if event.optimizer == optimizer and event.kind in {"stall", "finding", "moving"}
        )

    def stalled_since(self, optimizer: int) -> int | None:
        """The step since when the loss stands still, if it does at the end."""
        ends = [event for event in self.told(optimizer) if event.kind in {"stall", "moving"}]
        if not ends or ends[-1].kind != "stall":
            return None
        since = ends[-1].document.get("since")
        return since if isinstance(since, int) else ends[-1].step
