"""From the arguments to a training: the target, its checkpoint, and the steps to train first."""

from rich.console import Console

from unstuck import processes
from unstuck.cli.progress import shown
from unstuck.errors import UnstuckError
from unstuck.target import advance, load_checkpoint, load_training
from unstuck.training import Training


def loaded(
    target: str, checkpoint: str | None, steps: int, errors: Console, *, together: bool = False
) -> Training:
    """Build the training, load the checkpoint into it, and train so many steps.

    Args:
        target: Where the training is.
        checkpoint: To be loaded, or None.
        steps: To be trained.
        errors: Where what is done is said.
        together: Whether the command can be run by several processes.

    Raises:
        UnstuckError: One of these is no good, or the command cannot be run by several processes but is.
    """
    if processes.started_together() and not together:
        able = "`diagnose`, `treat`, `escape`, `spectrum`, `sharpness` and `surface`"
        msg = f"this command cannot be used with torchrun, only {able}"
        raise UnstuckError(msg)
    training = load_training(target)
    processes.join()
    if checkpoint:
        parts = load_checkpoint(training, checkpoint)
        say(errors, f"loaded {', '.join(parts)} from {checkpoint}")
    if steps:
        with shown(errors) as progress:
            advance(training, steps, progress)
    return training


def say(errors: Console, message: str) -> None:
    """Say something beside the answer, as it is; of several processes one does."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
