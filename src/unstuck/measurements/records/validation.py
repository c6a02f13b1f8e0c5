"""What was measured about the loss on data that the run does not train on."""

from dataclasses import dataclass

from unstuck.estimate import Estimate


@dataclass(frozen=True)
class Onward:
    """What going on does to the losses on both sides, in eval mode.

    Attributes:
        steps: How many steps were made.
        epochs: How many times the training sample was passed over.
        training_gain: Decrease of the training loss, averaged over the looks.
        validation_gain: Decrease of the validation loss at the same looks. Its error is that over the batches, or,
            where these are all the validation data, how it varies from look to look.
    """

    steps: int
    epochs: float
    training_gain: Estimate
    validation_gain: Estimate


@dataclass(frozen=True)
class Validation:
    """The loss on training and on validation data, both in eval mode and without weight decay.

    Attributes:
        examples: Of the validation data, how many were looked at.
        training: Loss on the training sample.
        validation: Loss on the validation data.
        gap: The second less the first.
        constant: Loss on the validation data of the best constant output that was tried (zero, or the mean of
            the model's outputs): what is paid without looking at the inputs. None where outputs are not tensors.
        rise: By how much the training loss rises at a distance of `radius` along its gradient (Foret et al.,
            2021, Sharpness-Aware Minimization, equation 1, with its usual radius); None where it has none.
        radius: That distance.
        onward: What going on does; None without an optimizer or where it diverges.
        undivided: A side is one batch that cannot be split, as a graph is: its loss is a fact, without the error that
            other data would differ by.
    """

    examples: int
    training: Estimate
    validation: Estimate
    gap: Estimate
    constant: float | None = None
    rise: Estimate | None = None
    radius: float = 0.0
    onward: Onward | None = None
    undivided: bool = False
