"""From the arguments to a training: the target, its checkpoint, and the steps to train first."""

from rich.console import Console

from unstuck.cli.progress import shown
from unstuck.target import advance, load_checkpoint, load_training
from unstuck.training import Training


def loaded(target: str, checkpoint: str | None, steps: int, errors: Console) -> Training:
    """Build the training, load the checkpoint into it, and train so many steps."""
    training = load_training(target)
    if checkpoint:
        parts = load_checkpoint(training, checkpoint)
        say(errors, f"loaded {', '.join(parts)} from {checkpoint}")
    if steps:
        with shown(errors) as progress:
            advance(training, steps, progress)
    return training


def say(errors: Console, message: str) -> None:
    """Say something beside the answer, as it is."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
