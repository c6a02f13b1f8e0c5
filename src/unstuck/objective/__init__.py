"""The loss of a training as a deterministic function of one flat vector, on a fixed sample of batches."""

from unstuck.objective.function import Objective
from unstuck.objective.sampling import Batch, Draw, draw

__all__ = ["Batch", "Draw", "Objective", "draw"]
