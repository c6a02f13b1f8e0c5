"""The first half of the cases: a module for each group of causes."""

from benchmarks.causes.first import critical, healthy, rates

_GROUPS = (healthy, critical, rates)
CASES = tuple(case for group in _GROUPS for case in group.CASES)
