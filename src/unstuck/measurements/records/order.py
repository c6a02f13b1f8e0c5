"""What was measured about the order that the data come in."""

from dataclasses import dataclass

from unstuck.estimate import Estimate

# Batches are surely not exchangeable below this probability, however many trainings are looked at ...
SURELY = 1e-9

# ... and suspicious when batch means vary twice as much as random ones: composition then adds as much to the
# noise of a step as drawing examples does. What is below may be real but cannot do much.
SUSPICIOUS = 2.0


@dataclass(frozen=True)
class Structure:
    """The part of the batches that differs most between them, beside batches drawn at random.

    Attributes:
        part: Where in a batch it is, e.g. "targets".
        excess: Variance of the batch means (of classes: of the batches' class counts) over that of randomly
            drawn batches: 1 for exchangeable ones, the batch size for sorted ones.
        probability: That exchangeable batches would differ as much in any of the parts looked at.
        correlation: Of the means of neighbouring batches.
        purity: Of classes: share of the most common class in a batch, averaged over the batches; else None.
        expected_purity: The same of randomly drawn batches.
    """

    part: str
    excess: float
    probability: float
    correlation: float
    purity: float | None = None
    expected_purity: float | None = None

    @property
    def suspicious(self) -> bool:
        """Whether the batches are surely not exchangeable, by more than could be of no consequence."""
        return self.probability < SURELY and self.excess > SUSPICIOUS


@dataclass(frozen=True)
class Reordered:
    """Going on in the order as given, beside going on with the same examples shuffled.

    Attributes:
        steps: How many steps each made.
        epochs: How many times the data were passed over.
        loss: Where both begin, on the judging batches, which are drawn at random.
        given_loss: The loss in the order as given, averaged over the looks.
        given_gain: Decrease of the loss in the order as given, averaged over the looks.
        shuffled_gain: The same with the examples shuffled.
        trend: Decrease of the loss in the order as given from the first half of the steps to the last, looked at in
            the same places of the order: what going on gains, whatever place the run has come to.
        extra: The gain of shuffling less that of the order as given, batch by batch, at the same looks.
        marks: Numbers of steps after which the loss was looked at.
        given: The loss there in the order as given.
        shuffled: The loss there with the examples shuffled.
    """

    steps: int
    epochs: float
    loss: float
    given_loss: float
    given_gain: Estimate
    shuffled_gain: Estimate
    trend: Estimate
    extra: Estimate
    marks: tuple[int, ...]
    given: tuple[float, ...]
    shuffled: tuple[float, ...]


@dataclass(frozen=True)
class Order:
    """The order that the data come in, and what it costs.

    Attributes:
        examples: How many were looked at.
        batches: In how many batches they came.
        whole: Whether these are all the data.
        source: "sequential" (a DataLoader that goes through a data set in its order), "shuffled" (one that draws
            at random), "list" (batches that are kept) or "other".
        repeated: Whether two passes gave the same batches in the same order; None if that is not known.
        structure: What differs most between batches.
        reordered: What shuffling gains; None where the batches look exchangeable or it could not be measured.
        reason: Why `reordered` is missing, or "".
    """

    examples: int
    batches: int
    whole: bool
    source: str
    repeated: bool | None
    structure: Structure
    reordered: Reordered | None = None
    reason: str = ""
