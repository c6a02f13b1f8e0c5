"""What was measured about which part of its inputs a model sees."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sight:
    """Numbers of the inputs, and examples, that no output of one batch depends on.

    Attributes:
        numbers: Of each example that are not the same in all examples.
        unseen: How many of these no output depends on.
        examples: In the batch.
        unheeded: How many of these no output depends on.
    """

    numbers: int
    unseen: int
    examples: int
    unheeded: int
