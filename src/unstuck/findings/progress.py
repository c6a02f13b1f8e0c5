"""Does going on as before lead anywhere?"""

from unstuck.measurements.records import Measurements

# A run that e-folds its loss within ten thousand steps is on its way.
HEALTHY_PACE = 1e-4

# A step that gets this share of what the best step along g could is doing well, however little that is.
KEEPING_UP = 0.1

# Twice the steps of a run on its way gain clearly more than once; one that bounces is lower now, higher then.
ACCUMULATES = 1.2

# A step this many times too long is no healthy one, even if the loss happens to be lower some steps later.
CHAOTIC = 0.1


def improves(measured: Measurements) -> bool:
    """Whether going on as before gains beyond doubt, ever more, and at a pace that leads somewhere."""
    midway, ahead, best = (measured.route(name) for name in ("midway", "ahead", "gradient"))
    if ahead is None or midway is None or best is None or not ahead.gain.surely_above(0.0):
        return False
    if ahead.gain.value < ACCUMULATES * midway.gain.value or (best.multiple or 1.0) < CHAOTIC:
        return False
    pace = ahead.gain.value / ahead.steps
    return pace > min(HEALTHY_PACE * measured.scale, KEEPING_UP * max(best.gain.value, 0.0))
