"""What is said of a run, and written down: a note once, a cause when it is new, and what holds no longer."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from unstuck.findings.records import Cause, Finding
from unstuck.plain import finite
from unstuck.watching.files import schema
from unstuck.watching.files.store import Store
from unstuck.watching.follower import Follower
from unstuck.watching.recorder import Recorder
from unstuck.watching.sentences import NOT_SURE, WITHDRAWN

# Messages that wait to be handed on.
_KEPT = 100


class Telling:
    """Says each thing once.

    Attributes:
        findings: The last that were concluded, the strongest first.
        messages: What was said, for whoever hands it on.
        told: Of each optimizer whose loss stands still, the causes that were said.
        recorder: Knows whose steps they are, and the time; None before there is one.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._noted: set[tuple[int | str, ...]] = set()
        self.findings: tuple[Finding, ...] = ()
        self.messages: deque[tuple[int, str, str]] = deque(maxlen=_KEPT)
        self.told: dict[int, set[Cause]] = {}
        self.recorder: Recorder | None = None

    @property
    def followers(self) -> list[Follower]:
        """Every optimizer's, as far as they are known."""
        return [] if self.recorder is None else self.recorder.followers

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return 0.0 if self.recorder is None else self.recorder.now

    def once(self, follower: Follower, *what: str) -> bool:
        """Whether this is new; from now on it is not."""
        noted = (follower.number, *what)
        new = noted not in self._noted
        self._noted.add(noted)
        return new

    def noted(self, follower: Follower, *what: str) -> bool:
        """Whether it was said."""
        return (follower.number, *what) in self._noted

    def note(self, follower: Follower, step: int, message: str, document: dict[str, Any]) -> None:
        """Say it once, whatever its numbers."""
        if self.once(follower, *document):
            self.event(follower, step, "note", message, document)

    def conclude(
        self, follower: Follower, step: int, findings: tuple[Finding, ...], unsure: str = NOT_SURE
    ) -> None:
        """Say what is new among the causes, and which hold no longer; where there are none, that it is not sure."""
        self.findings = findings
        told = self.told.get(follower.number, set())
        self.told[follower.number] = now = {finding.cause for finding in findings}
        self._withdraw(follower, step, told - now)
        if not findings:
            self.event(follower, step, "finding", unsure, {"cause": None})
        for finding in findings:
            message = (
                f"{finding.cause.value} ({100 * finding.confidence:.0f} % sure): {finding.explanation} "
                f"What to do: {finding.advice}"
            )
            # All that holds is written down together, and what is new is said.
            self.event(follower, step, "finding", message, asdict(finding), aloud=finding.cause not in told)

    def take_back(self, follower: Follower) -> None:
        """Say that what was said of it holds no longer."""
        self._withdraw(follower, follower.step, self.told.pop(follower.number, set()))

    def _withdraw(self, follower: Follower, step: int, causes: set[Cause]) -> None:
        if gone := sorted(causes):
            self.event(follower, step, "note", WITHDRAWN.format(", ".join(gone)), {"withdrawn": gone})

    def event(
        self,
        follower: Follower,
        step: int,
        kind: str,
        message: str,
        document: dict[str, Any],
        *,
        aloud: bool = True,
    ) -> None:
        """Write it down, and say it."""
        if aloud:
            whose = f", optimizer {follower.number}" if len(self.followers) > 1 else ""
            self._say(f"step {step:,}{whose}: {message}")
        self.messages.append((step, kind, message))
        row = (follower.number, step, self.now, kind, message, json.dumps(finite(document)))
        self._store.put(schema.EVENTS, row)
