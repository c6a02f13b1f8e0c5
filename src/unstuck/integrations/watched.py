"""What the callbacks of all frameworks have in common."""

from pathlib import Path

from unstuck.findings.records import Finding
from unstuck.watching.defaults import FOLDER, SHARE
from unstuck.watching.watch import Watch


class Watched:
    """Watches a training of a framework.

    Args:
        out: The folder that the run's file is written to.
        share: Of the time, that looks at the live graph may take; 0 turns them off.
    """

    def __init__(self, *, out: str | Path = FOLDER, share: float = SHARE) -> None:
        super().__init__()
        self._out, self._share = out, share
        self.watch: Watch | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why the loss stands still, the last time it did; the strongest first."""
        return () if self.watch is None else self.watch.findings

    def numbers(self) -> dict[str, float]:
        """The latest numbers, under the names that they are charted by."""
        found = {} if self.watch is None else self.watch.scalars()
        return {f"unstuck/{name}": value for name, value in found.items()}

    def end(self, state: str) -> None:
        """Say the last word."""
        if self.watch is not None:
            self.watch.end(state)
