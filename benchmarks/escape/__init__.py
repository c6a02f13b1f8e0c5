"""Gradients to leave a saddle and to reach a loss well below it: unstuck's escape against optimizers left to it."""

from benchmarks.escape.contest import run

__all__ = ["run"]
