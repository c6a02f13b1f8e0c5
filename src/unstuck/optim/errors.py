"""What can be wrong with an optimizer, each with one line that says what to do."""

from unstuck.errors import UnstuckError


class OptimizerError(UnstuckError):
    """A rule, a parameter, a gradient or a checkpoint that the optimizer cannot work with."""
