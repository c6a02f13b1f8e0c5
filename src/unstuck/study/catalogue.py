"""All studies by name, in the order of the lecture."""

from collections.abc import Sequence

from unstuck.study.claims.adaptive import ADAPTIVE
from unstuck.study.claims.batch_noise import BATCH_NOISE
from unstuck.study.claims.batch_quality import BATCH_QUALITY
from unstuck.study.claims.batch_time import BATCH_TIME
from unstuck.study.claims.burst import BURST_STUDY
from unstuck.study.claims.cost import COST
from unstuck.study.claims.escape import ESCAPE
from unstuck.study.claims.formula import FORMULA
from unstuck.study.claims.large_batch import LARGE_BATCH
from unstuck.study.claims.minimum_ratio import MINIMUM_RATIO
from unstuck.study.claims.momentum import MOMENTUM
from unstuck.study.claims.schedule import SCHEDULE
from unstuck.study.claims.sharp_flat import SHARP_FLAT
from unstuck.study.claims.stuck import STUCK
from unstuck.study.claims.surface import SURFACE
from unstuck.study.claims.valley import VALLEY
from unstuck.study.records import Study, StudyError

ALL = "all"

_ORDER = (
    SURFACE,
    ESCAPE,
    COST,
    MINIMUM_RATIO,
    BATCH_TIME,
    BATCH_QUALITY,
    BATCH_NOISE,
    SHARP_FLAT,
    LARGE_BATCH,
    MOMENTUM,
    STUCK,
    VALLEY,
    ADAPTIVE,
    BURST_STUDY,
    SCHEDULE,
    FORMULA,
)

STUDIES: dict[str, Study] = {study.name: study for study in _ORDER}


def chosen(names: Sequence[str]) -> tuple[Study, ...]:
    """Give the studies of these names, each once; `all` is every one.

    Raises:
        StudyError: There is none of a name.
    """
    unknown = [name for name in names if name not in STUDIES and name != ALL]
    if unknown:
        msg = f"there is no study {unknown[0]!r}: choose {ALL} or {', '.join(STUDIES)}"
        raise StudyError(msg)
    return tuple(study for study in STUDIES.values() if study.name in names or ALL in names)
