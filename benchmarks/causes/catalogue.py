"""All cases, by half."""

import argparse
import importlib
import importlib.util

from benchmarks.causes.case import Case
from benchmarks.causes.first import CASES as FIRST


def _second() -> tuple[Case, ...]:
    """Give the cases of the second half, where it is there."""
    if importlib.util.find_spec("benchmarks.causes.second") is None:
        return ()
    return tuple(getattr(importlib.import_module("benchmarks.causes.second"), "CASES", ()))


SECOND = _second()
HALVES = {"first": FIRST, "second": SECOND}
BY_NAME = {case.name: case for cases in HALVES.values() for case in cases}
HALF_OF = {case.name: half for half, cases in HALVES.items() for case in cases}


def chosen(arguments: argparse.Namespace) -> list[Case]:
    """Give the cases that are named, or whose label is, or all; of one half where that is asked for.

    Raises:
        SystemExit: A name is none of a case and none of a cause.
    """
    cases = [case for case in BY_NAME.values() if arguments.half in (None, HALF_OF[case.name])]
    if not arguments.names:
        return cases
    known = {case.name for case in cases} | {str(case.cause) for case in cases}
    if unknown := set(arguments.names) - known:
        msg = f"no such case or label: {', '.join(sorted(unknown))}; see `python -m benchmarks.causes list`"
        raise SystemExit(msg)
    return [case for case in cases if {case.name, str(case.cause)} & set(arguments.names)]
