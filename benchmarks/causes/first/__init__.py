"""The first half of the cases: a module for each group of causes."""

from benchmarks.causes.first import critical, examples, healthy, rates, units, wiring

_GROUPS = (healthy, critical, rates, units, wiring, examples)
CASES = tuple(case for group in _GROUPS for case in group.CASES)
