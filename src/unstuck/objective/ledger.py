"""What was spent, in evaluations of the gradient."""

from dataclasses import dataclass

# Prices in gradients, rounded from measurements on an MLP, a conv net and a transformer (benchmarks/).
VALUE = 0.5
GRADIENT = 1.0
GRAPH = 1.5  # a gradient that keeps its graph
RETAINED_PRODUCT = 2.0
FRESH_PRODUCT = 3.0
FORWARD_PRODUCT = 3.5  # the gradient, differentiated in forward mode
DIFFERENCE = 2.0


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
