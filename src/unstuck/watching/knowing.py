"""What is known of a run, from all that has been written down of it."""

import sys
from dataclasses import replace

from unstuck.measurements.records.live import Recent
from unstuck.watching.follower import Follower
from unstuck.watching.heard import Heard
from unstuck.watching.recent import Wiring, recent, wiring
from unstuck.watching.recorder import Recorder
from unstuck.watching.remarks import NOTHING


def known(follower: Follower, heard: Heard, recorder: Recorder | None, since: int, level: float) -> Recent:
    """What the record says of the steps since then."""
    found = recent(
        list(follower.samples),
        since=since,
        until=follower.step,
        level=level,
        began=heard.first,
        lowest=heard.lowest,
        first=follower.first,
        scale=max(abs(level), sys.float_info.min),
        rate=None if heard.rates is None else heard.rates[1],
        first_rate=None if heard.rates is None else heard.rates[0],
        made=follower.made,
        erased=follower.erased(),
        from_zero=follower.from_zero,
        glimpse=follower.glimpse,
        wired=wired(follower, heard, recorder),
    )
    # Weights that are nearly gone pass next to nothing on, which is rounded to zero: no unit need have died.
    return replace(found, silent=()) if found.silent and follower.shrunk() < NOTHING else found


def lately(follower: Follower, heard: Heard, recorder: Recorder | None) -> Recent | None:
    """What it says of the last half of the steps, and how the loss has fallen in them; None if that is not known."""
    pace = heard.tests.pace()
    if pace is None:
        return None
    found = known(follower, heard, recorder, follower.step // 2 + 1, pace.level)
    return replace(found, falls=pace.falls, falls_lately=pace.lately, momentum=follower.momentum())


def wired(follower: Follower, heard: Heard, recorder: Recorder | None) -> Wiring:
    """What of the model is trained; of one that is gone, what was known last."""
    listed = [] if recorder is None else recorder.listed()
    # In this order: one that still is there has been listed.
    if recorder is not None and listed and follower.alive():
        heard.wired = wiring(follower.inventory(), listed, recorder.reached(), follower.stairs)
    return heard.wired
