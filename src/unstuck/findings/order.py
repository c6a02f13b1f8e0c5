"""The order of the data: batches that could not have been drawn at random, where that does harm."""

from dataclasses import replace

from unstuck.findings.layers import dead_units, saturated_units
from unstuck.findings.phrases import estimated, surely_negative
from unstuck.findings.progress import SIGMAS, falls, improves
from unstuck.findings.records import Cause, Evidence, Finding, Point
from unstuck.measurements.records import Measurements, Order, Reordered, Structure

# Shuffling must end this much below the order as given. Two passes over text in its natural order end 1 to 4 %
# above shuffled ones on their way down, over images in the order they were written by 30 people 1 to 7 %.
HARM = 0.1

# Half of it is enough where the run does not fall, which all of those do, or batches are of one class, which
# nobody intends.
HARM_STUCK = 0.05

# Where both is so, anything worth the name is.
HARM_BOTH = 0.01

# And fall three times as far as going on does: this much more than it. Less is a faster run, not a way out.
MORE = 2.0

# Or end this much lower, where it does not fall three times as far.
FAR_BELOW = 0.3

# Batches are of one class when nine examples in ten are, and random batches would be mixed.
PURE, MIXED = 0.9, 0.7

# The loss swings with the order when it moves by half of itself between looks at the same batches.
SWING = 0.5

# Of a swing without a trial of the remedy: the batches are certain, that they are what hurts is likely.
UNTRIED = 0.6


def unshuffled_data(point: Point, measured: Measurements) -> Finding | None:
    """Batches that are surely not exchangeable, and shuffling gains much more, or the loss swings with them."""
    order = measured.order
    if order is None or not order.structure.suspicious:
        return None
    if order.reordered is not None:
        falling = measured.continuations is None or falls(measured)
        tried = _tried(order, order.reordered, falling=falling)
        return tried or _unrevived(point, order, measured)
    return _untried(order, measured)


def of_one_class(order: Order) -> str | None:
    """Say that batches are of one class each, where shuffling is not seen to help."""
    if not _pure(order.structure):
        return None
    return f"{_who(order)}{_seen(order.reordered)} {_advice(order)}"


def surely_costs(order: Order | None) -> bool:
    """Whether batches are of one class each, which nobody intends, and shuffled ones surely end lower."""
    return order is not None and _pure(order.structure) and _gains(order.reordered)


CHECKS = (unshuffled_data,)


def _gains(tried: Reordered | None) -> bool:
    """Whether shuffling surely gains anything worth the name."""
    return tried is not None and tried.extra.surely_above(HARM_BOTH * abs(tried.given_loss), sigmas=SIGMAS)


def _seen(tried: Reordered | None) -> str:
    if tried is None:
        return ""
    if not _gains(tried):
        return f" In the next {tried.steps} steps shuffling them gains little, but later it may."
    lower = 100.0 * tried.extra.value / abs(tried.given_loss)
    return f" In the next {tried.steps} steps the same examples shuffled end {lower:.2g} % lower."


def _tried(order: Order, reordered: Reordered, *, falling: bool) -> Finding | None:
    """Judge by the trial; where the run falls in the order as given, shuffling must outdo that by far."""
    loss = abs(reordered.given_loss)
    much = max(HARM * loss, min(MORE * reordered.trend.value, FAR_BELOW * loss))
    signs = _pure(order.structure) + (not falling)
    enough = (much, HARM_STUCK * loss, HARM_BOTH * loss)[signs]
    extra = reordered.extra
    if not extra.surely_above(enough, sigmas=SIGMAS) or not reordered.shuffled_gain.value > 0.0:
        return None
    beyond = replace(extra, value=extra.value - enough)
    shuffled = reordered.given_loss - extra.value
    return Finding(
        Cause.UNSHUFFLED_DATA,
        surely_negative(-beyond),
        (
            estimated("gain_of_shuffling", extra / max(abs(reordered.given_loss), 1e-300)),
            *_evidence(order.structure),
        ),
        f"{_who(order)} Going on for {reordered.steps} steps in this order ends at a loss of "
        f"{reordered.given_loss:.3g} on average, and with the same examples shuffled at {shuffled:.3g}.",
        _advice(order),
    )


def _untried(order: Order, measured: Measurements) -> Finding | None:
    """Judge by the swing of the run alone, where the examples cannot be put into other batches."""
    structure, continuations = order.structure, measured.continuations
    if continuations is None:
        return None
    if not _pure(structure) or improves(measured):
        return None
    losses = continuations.going_on.losses
    swing = (max(losses) - min(losses)) / max(measured.scale, 1e-300)
    if swing < SWING:
        return None
    return Finding(
        Cause.UNSHUFFLED_DATA,
        UNTRIED,
        (Evidence("swing_of_the_loss", swing), *_evidence(structure)),
        f"{_who(order)} While the run goes on, its loss swings by {100 * swing:.3g} % without coming down.",
        _advice(order),
    )


def _unrevived(point: Point, order: Order, measured: Measurements) -> Finding | None:
    """Where units are dead or saturated, no order of the data moves the run, whatever has brought them there."""
    if not _pure(order.structure) or not any(
        check(point, measured) for check in (dead_units, saturated_units)
    ):
        return None
    return Finding(
        Cause.UNSHUFFLED_DATA,
        UNTRIED,
        _evidence(order.structure),
        f"{_who(order)} Shuffling them gains nothing now, as units are dead or saturated; batches of one class drive "
        "them there, and would again.",
        _advice(order),
    )


def _pure(structure: Structure) -> bool:
    """Whether batches are nearly of one class each, and random ones would not be."""
    if structure.purity is None or structure.expected_purity is None:
        return False
    return structure.purity >= PURE and structure.expected_purity <= MIXED


def _evidence(structure: Structure) -> tuple[Evidence, ...]:
    purity = structure.purity
    return (
        Evidence("batch_variance_over_random", structure.excess),
        *([Evidence("most_common_class_in_a_batch", purity)] if purity is not None else []),
    )


def _who(order: Order) -> str:
    structure = order.structure
    pure = structure.purity is not None and structure.purity > (structure.expected_purity or 0.0)
    how = (
        f"{100 * (structure.purity or 0.0):.3g} % of a batch are of one class on average, where random batches "
        f"would have {100 * (structure.expected_purity or 0.0):.3g} %"
        if pure
        else f"batch means vary {structure.excess:.3g} times as much as those of random batches"
    )
    where = " The DataLoader goes through the data set in its order." if order.source == "sequential" else ""
    return f"The batches could not have been drawn at random: in `{structure.part}`, {how}.{where}"


def _advice(order: Order) -> str:
    anew = "anew in each epoch, so that every batch is a fair sample of the data"
    if order.source == "sequential":
        return f"Pass shuffle=True to the DataLoader: it then draws the examples {anew}."
    return f"Shuffle the examples {anew}; for streams, through a buffer that holds many batches."
