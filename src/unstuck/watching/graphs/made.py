"""What a loss is made of that does not fit it, as far as its graph says."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unstuck.watching.graphs.alone import alone
from unstuck.watching.graphs.crossed import crossed
from unstuck.watching.graphs.outputs import mismatch


@dataclass(frozen=True)
class Made:
    """Each in a sentence; empty where nothing is seen.

    Attributes:
        twice: What is normalised twice on its way to the loss.
        crossed: Which outputs are compared with the targets of all examples.
        alone: What is normalised over a single class.
    """

    twice: str = ""
    crossed: str = ""
    alone: str = ""

    def __or__(self, other: "Made") -> "Made":
        """What was seen here, else there."""
        return Made(self.twice or other.twice, self.crossed or other.crossed, self.alone or other.alone)


NOT_SEEN = Made()


def made(loss: Any) -> Made:
    """Read the graph of a loss, if it is one."""
    return Made(mismatch(loss), crossed(loss), alone(loss)) if isinstance(loss, Tensor) else NOT_SEEN
