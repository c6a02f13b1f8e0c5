"""Stuck trainings whose cause is known, because an intervention proves it: what `diagnose` is judged by.

`python -m benchmarks.causes list` names the cases, `prove` continues each from where it is stuck under many changes
and holds its label to what they gain, `score` asks `diagnose` for the cause of each.
"""
