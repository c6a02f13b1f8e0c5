"""From what was typed to a training: the TARGET of a command, a checkpoint to load, steps to train first."""

from unstuck.target.advance import advance
from unstuck.target.checkpoint import load_checkpoint
from unstuck.target.load import load_training
from unstuck.target.saving import holds_optimizer, like, write_checkpoint

__all__ = ["advance", "holds_optimizer", "like", "load_checkpoint", "load_training", "write_checkpoint"]
