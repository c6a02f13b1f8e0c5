"""What was measured about the model's outputs: how low the loss can go with them, and with any others."""

from dataclasses import dataclass

# Where less than this share is left of what telling examples apart gains, above a floor, all is as good as learnt.
LEFT = 0.01


@dataclass(frozen=True)
class Outputs:
    """Least losses over free outputs, instead of over parameters: no training can go below `built`.

    Attributes:
        criterion: The function in which outputs and targets meet, such as "cross_entropy".
        ends: What the outputs go through between the last parameters and the criterion, such as "softmax".
        loss: Of the batches looked at, at the point.
        built: Least loss over all values of the last layer's outputs; None where `ends` restrict nothing.
        free: Least loss over all inputs of the criterion that it is defined for; None as `built`.
        misfit: What the criterion was given on every batch that it is not made for: "probabilities",
            "unnormalised" (where log-probabilities belong), "broadcast" (outputs of one shape against
            targets of another, so that each meets all), "scrambled" (different places taken for classes), "cosines"
            (products of rows of fixed lengths, which may be meant), "constant" (the same numbers whatever the last
            layer puts out), "unbounded" (targets outside of 0 to 1 beside logits), "indifferent" (one output for all
            examples is as good as any), or "".
        shapes: Of outputs and targets, where they are broadcast: then `built` is the floor as they are
            and `free` the one with equal shapes. Of the cosines, where it is these.
        batches: How many were looked at.
        floor: Least loss over all values of the last layer's outputs, where that is a good part of the loss, as where
            targets are smoothed, soft or a teacher's; None where it is not, or is not known.
        blind: Least loss over one output for all examples; None if it is not known.
    """

    criterion: str
    ends: tuple[str, ...]
    loss: float
    built: float | None = None
    free: float | None = None
    misfit: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    batches: int = 1
    floor: float | None = None
    blind: float | None = None

    @property
    def room(self) -> float | None:
        """What is left above the floor; None where that is all of the loss, or not known, or as good as nothing."""
        if self.floor is None or not 0.0 < self.floor < self.loss:
            return None
        return None if self.learnt else self.loss - self.floor

    @property
    def learnt(self) -> bool:
        """Whether as good as nothing is left above the floor of what telling examples apart gains."""
        if self.floor is None or self.blind is None:
            return False
        return self.loss - self.floor < LEFT * (self.blind - self.floor)

    @property
    def excess(self) -> float:
        """How much of the loss no parameters can remove, though other outputs could."""
        return 0.0 if self.built is None or self.free is None else max(self.built - self.free, 0.0)

    @property
    def share(self) -> float:
        """The same, of all that other outputs could remove."""
        room = 0.0 if self.free is None else self.loss - self.free
        return min(self.excess / room, 1.0) if room > 0.0 else 0.0
