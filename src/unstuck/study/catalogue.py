"""All studies by name, in the order of the lecture."""

from collections.abc import Sequence

from unstuck.study.claims.escape import ESCAPE
from unstuck.study.claims.surface import SURFACE
from unstuck.study.records import Study, StudyError

ALL = "all"

STUDIES: dict[str, Study] = {study.name: study for study in (SURFACE, ESCAPE)}


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
