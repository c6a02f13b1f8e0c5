"""Learning rates side by side, on one order of the data; what falls far behind is given up."""

from collections.abc import Sequence

from unstuck.batch.branches import Branch, Brancher
from unstuck.batch.course import Arm
from unstuck.batch.efficiency import alike

# Half octaves of the run's rate that are tried at its own size: far enough to see a rate that is twenty times off.
SCAN = tuple(range(-10, 11, 2))

# Those that are tried from weights made anew, which tell whether the rate is too large.
SMALLER = tuple(halves for halves in SCAN if halves <= 0)

# A smaller rate that is behind the best by more than this share of what that has gained is not gone on with; a larger
# one may only be slow to begin, as long as it gains.
_BEHIND = 0.5

# But for those of up to so many half octaves below the best: at first a larger step leads by its length alone, and
# may soon get no further.
_BELOW = 4


class Scan:
    """Branches of one order from one state, by size and rate; all rates of a size go on until they fall behind.

    One that has been given up goes on again where the best comes down to it.

    Args:
        make: Makes the branches.
        rates: Half octaves that are tried.

    Attributes:
        branches: Those that there are.
    """

    def __init__(self, make: Brancher, rates: Sequence[int]) -> None:
        self._make, self._rates = make, rates
        self.branches: dict[Arm, Branch] = {}

    def branch(self, arm: Arm, seconds: float) -> Branch:
        """Give one, begun where there is none."""
        if arm not in self.branches:
            self.branches[arm] = self._make(arm, 0, seconds)
        return self.branches[arm]

    def going_on(self, size: int) -> list[int]:
        """Give the rates that are not far behind at a size; all where none has been tried."""
        tried = self._of(size)
        if not tried:
            return list(self._rates)
        best = self.best(size)
        begun, come = tried[best].looks[0][1], tried[best].standing
        enough = come + _BEHIND * max(begun - come, 0.0)
        # The best of those near the run's is what a wrong one is told by.
        own = min(filter(alike, tried), key=lambda halves: tried[halves].standing, default=best)
        return [
            halves
            for halves in self._rates
            if halves in (best, own)
            or best - _BELOW <= halves < best
            or tried[halves].standing < (begun if halves > best else enough)
        ]

    def best(self, size: int) -> int:
        """Give the rate that has come lowest at a size."""
        tried = self._of(size)
        return min(tried, key=lambda halves: (tried[halves].standing, halves))

    def _of(self, size: int) -> dict[int, Branch]:
        return {arm.halves: branch for arm, branch in self.branches.items() if arm.size == size}
