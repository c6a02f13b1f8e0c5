"""What was measured about the labels: whether anything in the inputs predicts them."""

from dataclasses import dataclass

from unstuck.estimate import Estimate

# What stands in the place of tests where all inputs are the same.
ALIKE = "alike"


@dataclass(frozen=True)
class Labels:
    """Tests of independence of inputs and labels, each by predictions of examples that were left out.

    Attributes:
        examples: How many different ones the first test rests on.
        p_value: Of independence: how often permuted labels are predicted as well, by any of the tests,
            corrected for their number.
        dependence: Correlation of labels with the predictions of left-out examples, in the test with the
            smallest p-value if that is below 0.01, else in the most precise one; its error is the spread
            under permuted labels.
        detectable: Smallest such correlation that the most precise test would have noticed with
            probability 0.9.
        tests: What predicted: "inputs" (ridge, kernel and nearest-neighbour regression), "scatter" (the same,
            of how far the labels lie from their middle), "random features" (of the model initialised anew),
            "trained copy" (the model initialised anew and trained on half of the examples, judged on the
            other half), "validation" (the model as it is, on data that it has not seen). Or "alike": all inputs
            are the same, and nothing could.
        loss: At the point.
        constant: Least loss that one output for all examples reaches; None if it is not known.
        passes: How often the copy was trained on its half.
        discrete: Whether the inputs are of few different numbers, as bits and tokens are; rules such as parity
            then leave no trace that any of the tests could find.
        pairs: Whether these are no labels, but the other side of pairs that the loss compares.
        directions: In how many directions the inputs of different examples differ: the participation ratio of their
            covariance, of all inputs or, where these are sequences, of their sums, whichever are fewer.
    """

    examples: int
    p_value: float
    dependence: Estimate
    detectable: float
    tests: tuple[str, ...]
    loss: float
    constant: float | None = None
    passes: int = 0
    discrete: bool = False
    pairs: bool = False
    directions: float = 0.0

    @property
    def memorised(self) -> bool:
        """Whether the loss lies far below a constant's, although nothing predicts the labels."""
        return self.constant is not None and self.loss < 0.5 * self.constant
