"""How much of a step is the noise of its batch, and whether that alone can be what throws the run about."""

from unstuck.measurements.records import Measurements

# Two thirds of a batch's gradient (of its squared length) are signal where the noise scale is half the batch size.
MOSTLY_SIGNAL = 0.5

# Steps of a tenth of what the steepest direction bears cannot bounce between its walls. Somewhat below the edge they
# may, where batches differ: with small ones runs settle there (Cohen et al., 2021).
WITHIN = 0.1


def mostly_signal(measured: Measurements) -> bool:
    """Whether a batch's gradient is mostly signal: the noise scale lies far below the batch size."""
    noise = measured.noise
    return noise is not None and noise.simple is not None and noise.simple.value < MOSTLY_SIGNAL * noise.batch


def jostled(measured: Measurements) -> bool:
    """Whether batches are mostly noise, and steps too short by far to bounce between walls: then noise it is."""
    stability = measured.stability
    within = stability is not None and stability.ratio.surely_below(WITHIN)
    return within and measured.noise is not None and not mostly_signal(measured)
