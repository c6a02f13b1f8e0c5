"""What was spent, in evaluations of the gradient."""

import sys
from dataclasses import dataclass

import psutil

# Prices in gradients, rounded from measurements on an MLP, a conv net and a transformer (benchmarks/).
VALUE = 0.5
GRADIENT = 1.0
GRAPH = 1.5  # a gradient that keeps its graph
RETAINED_PRODUCT = 2.0
FRESH_PRODUCT = 3.0
CHECKPOINTED = 1.5  # so many times a product's price, where blocks are computed again
FORWARD_PRODUCT = 3.5  # the gradient, differentiated in forward mode


@dataclass
class Ledger:
    """Counts evaluations, weighted by the examples they ran over."""

    examples: float = 0.0
    products: int = 0

    def spend(self, price: float, examples: int) -> None:
        """Note an evaluation of `price` gradients over `examples` examples."""
        self.examples += price * examples

    def gradients(self, examples: int) -> float:
        """What was spent so far, in gradients over a sample of `examples` examples."""
        return self.examples / examples


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
