"""Why has the loss stopped going down? See README.md."""

from unstuck.training import Training, supervised

__all__ = ["Training", "supervised"]
