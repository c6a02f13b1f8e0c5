"""What can go wrong at the door, each with one clear line for the person who called."""


class UnstuckError(Exception):
    """Base of every error that `unstuck` raises on purpose; its message is one line that says what to do."""


class TrainingError(UnstuckError):
    """The training that was handed in cannot be used."""


class TargetError(UnstuckError):
    """The TARGET of a command does not lead to a training."""


class CheckpointError(UnstuckError):
    """The checkpoint cannot be loaded into the model."""


class MeasurementError(UnstuckError):
    """A measurement is impossible with what was given."""


class RunError(UnstuckError):
    """A recorded run cannot be written or read."""
