"""An axis that is linear around zero and logarithmic further out, on both sides."""

import math
from dataclasses import dataclass

from unstuck.report.figures.theme import MINUS, power_of_ten

MOST_DECADES = 4  # labelled on each side


@dataclass(frozen=True)
class SignedAxis:
    """Positions asinh(x / unit): below `unit` it is linear, beyond it every factor of ten is equally long."""

    unit: float

    def at(self, value: float) -> float:
        """The position of a value on the axis."""
        return math.asinh(value / self.unit)

    def value(self, position: float) -> float:
        """The value at a position."""
        return self.unit * math.sinh(position)

    def ticks(self, low: float, high: float) -> tuple[list[float], list[str]]:
        """Positions and labels of zero and of the powers of ten between `low` and `high` (values)."""
        first = math.floor(math.log10(self.unit)) + 1
        last = max(first, math.floor(math.log10(max(abs(low), abs(high), self.unit))))
        stride = 1 + (last - first) // MOST_DECADES
        powers = range(last, first - 1, -stride)
        ticks = [(0.0, "0")]
        ticks += [(10.0**power, power_of_ten(power)) for power in powers if 10.0**power <= high]
        ticks += [(-(10.0**power), MINUS + power_of_ten(power)) for power in powers if -(10.0**power) >= low]
        ticks.sort()
        return [self.at(value) for value, _ in ticks], [label for _, label in ticks]
