"""What is learnt does not carry over to data that the run does not train on."""

from dataclasses import replace

from unstuck.findings.phrases import estimated, surely_negative
from unstuck.findings.progress import falls
from unstuck.findings.records import Cause, Evidence, Finding, Kind, Point
from unstuck.measurements.records import Measurements, Validation

# A validation loss this many times the training loss. Runs in good health end 10 to 30 % above it; half as much
# again is beyond that, and beyond what two samples of the same data differ by.
LARGER = 1.5

# And the gap is this share of what a constant output costs: a model that knows nearly everything, on both
# sides, has no gap worth closing, however many times smaller its training loss is.
MATTERS = 0.03

# Without a constant to compare with only the ratio speaks, and it must be plain: twice.
LARGER_ALONE = 2.0

# On the very data that were given the gap is a fact; its error says whether other validation data would show it.
# Few wrong examples carry most of a validation loss, so that three errors would be silent below hundreds of them.
# Whether a noisy curve still falls is asked with as much, see SIGMAS in findings/progress.py.
SIGMAS = 2.0

# Validation stands still when two passes lower it by less than this share, surely. See NEGLIGIBLE in
# findings/progress.py: a hundredth.
STANDS_STILL = 0.01

# But a fall that is beyond doubt counts as a fall from a thousandth on: over ten passes that makes a hundredth.
FALLS = 1e-3

# Training has nothing left to learn at this share of the validation loss: all the rest is the gap.
FITTED = 0.1

# How sure a gap is between data that are one whole each, as a graph is: nothing tells how others would differ.
UNDIVIDED = 0.8

# Worse than a constant output by this factor: memorised, or the validation data are of another kind.
WORSE_THAN_CONSTANT = 1.5


def generalization_gap(point: Point, measured: Measurements) -> Finding | None:
    """Validation lies far above training, going on does not lower it, and training improves or is done."""
    validation = measured.validation
    if validation is None or not _large(validation) or not _validation_stands(validation):
        return None
    done = point.kind in (Kind.MINIMUM, Kind.DEGENERATE_MINIMUM) or _fitted(validation)
    if not done and not _training_improves(validation) and not falls(measured):
        return None
    beyond = replace(validation.gap, value=validation.gap.value - _enough(validation))
    sure = surely_negative(-beyond)
    return Finding(
        Cause.GENERALIZATION_GAP,
        min(sure, UNDIVIDED) if validation.undivided else sure,
        _evidence(validation, measured),
        f"{_levels(validation)} {_onward(validation)} What the model still learns is its training examples.",
        _advice(validation),
    )


CHECKS = (generalization_gap,)


def _enough(validation: Validation) -> float:
    """The gap from which on it is a large one."""
    training, constant = validation.training.value, validation.constant
    if constant is None:
        return (LARGER_ALONE - 1.0) * abs(training)
    return max((LARGER - 1.0) * abs(training), MATTERS * constant)


def _large(validation: Validation) -> bool:
    return validation.gap.surely_above(_enough(validation), sigmas=SIGMAS)


def _validation_stands(validation: Validation) -> bool:
    if validation.onward is None:
        return False
    if _fitted(validation) and _harmful(validation):
        return True  # however a few steps move it: there is no more to be learnt from training that could mend it
    gain, loss = validation.onward.validation_gain, abs(validation.validation.value)
    if gain.surely_above(0.0, sigmas=SIGMAS) and gain.value > FALLS * loss:
        return False
    # What is left of the training loss could not close the gap, even if all of it went.
    return _fitted(validation) or gain.surely_below(STANDS_STILL * loss, sigmas=SIGMAS)


def _fitted(validation: Validation) -> bool:
    return validation.training.surely_below(FITTED * validation.validation.value, sigmas=SIGMAS)


def _harmful(validation: Validation) -> bool:
    """Whether validation surely costs more than an output that ignores the inputs: what is learnt does harm there."""
    constant = validation.constant
    return constant is not None and validation.validation.surely_above(constant)


def _training_improves(validation: Validation) -> bool:
    onward = validation.onward
    return onward is not None and onward.training_gain.surely_above(0.0, sigmas=SIGMAS)


def _evidence(validation: Validation, measured: Measurements) -> tuple[Evidence, ...]:
    found = [
        estimated("generalization_gap", validation.gap),
        estimated("validation_loss", validation.validation),
        estimated("training_loss_in_eval_mode", validation.training),
    ]
    if validation.constant is not None:
        found.append(Evidence("loss_of_a_constant_output", validation.constant))
    if validation.onward is not None:
        found.append(estimated("fall_of_validation", validation.onward.validation_gain))
        found.append(estimated("fall_of_training", validation.onward.training_gain))
    if validation.rise is not None:
        found.append(estimated("sharpness_sam", validation.rise))
    if measured.spectrum is not None:
        found.append(Evidence("lambda_max", measured.spectrum.lambda_max))
        found.append(estimated("trace", measured.spectrum.trace))
    return tuple(found)


def _levels(validation: Validation) -> str:
    training, held = validation.training.value, validation.validation.value
    said = f"The validation loss is {held:.3g}, the training loss {training:.3g} (both without dropout)."
    if validation.constant is None:
        return said
    return f"{said} An output that ignores the inputs would cost {validation.constant:.3g}."


def _onward(validation: Validation) -> str:
    if validation.onward is None:
        return ""
    training, held = validation.onward.training_gain.value, validation.onward.validation_gain.value
    return (
        f"Going on for {validation.onward.steps} steps {_moves(training)} the training loss by "
        f"{abs(training):.2g} and {_moves(held)} that on validation by {abs(held):.2g}."
    )


def _moves(gain: float) -> str:
    return "lowers" if gain > 0.0 else "raises"


def _advice(validation: Validation) -> str:
    cure = (
        "Regularise (weight decay, dropout, augmentation), get more data, or stop where validation was lowest"
    )
    constant = validation.constant
    if constant is not None and validation.validation.surely_above(WORSE_THAN_CONSTANT * constant):
        return (
            "See first that the validation data are prepared like the training data (same scaling, same "
            f"labels): the model does worse on them than one that ignores its inputs. If they are: {cure}."
        )
    return f"{cure}; see too that validation data come from where the training data do."
