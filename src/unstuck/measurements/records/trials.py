"""What remedies did, tried from the very state the run is in, beside going on as before."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Curve:
    """The loss along one continuation of the run.

    Attributes:
        spent: Gradient evaluations of one batch until each look, ascending, what the remedy itself cost included.
        losses: The loss there on the held sample; infinite once the run was thrown out for good.
        end: The loss it ends with: the mean of the last looks, since a bouncing run is not judged by one moment.
        validation: The loss on validation data at the end, where there are any.
    """

    spent: tuple[float, ...]
    losses: tuple[float, ...]
    end: float
    validation: float | None = None


@dataclass(frozen=True)
class Trial:
    """One remedy, tried.

    Attributes:
        name: Of the remedy, in kebab-case.
        causes: Words of the causes that it treats.
        change: What is changed, in a few words.
        code: The lines of code that make the change in the user's script.
        source: Where the remedy comes from.
        setup: Gradient evaluations of one batch that it cost before its first step, on average.
        curves: One an order; the first is that of the screening.
        gain: (loss of going on - loss under the remedy) / loss of going on, over the orders of the proof, with its
            standard error; None for what was given up before.
        low: Lower end of its interval, at the joint level of all remedies in the proof.
        high: Upper end.
        validation: The same gain on the validation data, where there are any.
        given_up: Why it did not come to the proof, or "".
    """

    name: str
    causes: tuple[str, ...]
    change: str
    code: tuple[str, ...]
    source: str
    setup: float
    curves: tuple[Curve, ...]
    gain: Estimate | None = None
    low: float | None = None
    high: float | None = None
    validation: Estimate | None = None
    given_up: str = ""

    @property
    def helps(self) -> bool:
        """Whether it is proved to help."""
        return self.low is not None and self.low > 0.0


@dataclass(frozen=True)
class Untried:
    """A remedy that was thought of and could not be tried, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Trials:
    """Going on as before, and every remedy beside it, for the same number of gradient evaluations.

    Attributes:
        going_on: One curve an order; the first is that of the screening.
        tried: In the order in which they were tried; in a verdict the best first.
        untried: What could not be.
        orders: How many orders of the batches the proof rests on.
        horizon: Gradient evaluations of one batch that each continuation may cost.
        batches: Batches of the held sample, which the loss is looked at on.
        whole: The held sample is all the data there is.
        by_validation: The gains are those on the validation data, since that is what is wrong.
        level: Probability with which all intervals hold at once.
        gradients: What the trials cost together, in gradients over the sample.
        seconds: The same in seconds.
        complete: Every order that was planned was run.
        least: A gain within this of nothing is none for practical purposes.
    """

    going_on: tuple[Curve, ...]
    tried: tuple[Trial, ...]
    untried: tuple[Untried, ...]
    orders: int
    horizon: float
    batches: int
    whole: bool
    by_validation: bool
    level: float
    gradients: float
    seconds: float
    complete: bool
    least: float = 0.01

    def named(self, name: str) -> Trial | None:
        """The trial of that remedy, if it was tried."""
        return next((trial for trial in self.tried if trial.name == name), None)
