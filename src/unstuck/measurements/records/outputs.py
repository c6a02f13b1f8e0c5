"""What was measured about the model's outputs: how low the loss can go with them, and with any others."""

from dataclasses import dataclass


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
            targets of another, so that each meets all), "scrambled" (different places taken for classes), or "".
        shapes: Of outputs and targets, where they are broadcast: then `built` is the floor as they are
            and `free` the one with equal shapes.
        batches: How many were looked at.
    """

    criterion: str
    ends: tuple[str, ...]
    loss: float
    built: float | None = None
    free: float | None = None
    misfit: str = ""
    shapes: tuple[tuple[int, ...], ...] = ()
    batches: int = 1

    @property
    def excess(self) -> float:
        """How much of the loss no parameters can remove, though other outputs could."""
        return 0.0 if self.built is None or self.free is None else max(self.built - self.free, 0.0)

    @property
    def share(self) -> float:
        """The same, of all that other outputs could remove."""
        room = 0.0 if self.free is None else self.loss - self.free
        return min(self.excess / room, 1.0) if room > 0.0 else 0.0
