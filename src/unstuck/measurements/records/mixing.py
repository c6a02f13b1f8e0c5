"""What was measured about examples of one batch: whether the output of one depends on where another stands."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Mixing:
    """What changes in the outputs of a batch when two of its examples trade places.

    Attributes:
        own: Of the squared change of all outputs, the share in those that are compared with the targets of the two: 1
            where outputs follow their examples, whoever is beside them.
        first: The squared change of these outputs, over that of as many that change most: 1 where the two's own are
            those, near 0 where they are compared with the targets of others.
        swaps: How many pairs traded places, one at a time.
        examples: In the batch.
    """

    own: Estimate
    first: Estimate
    swaps: int
    examples: int
