"""A run that is watched: written down, tested for a stall at every step, and looked into when there is one."""

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from unstuck.errors import RunError, UnstuckError
from unstuck.findings.live import conclude_live
from unstuck.findings.records import Finding
from unstuck.measurements.records.live import Look, Recent
from unstuck.objective.sampling import reason
from unstuck.watching import schema
from unstuck.watching.hooks import attach
from unstuck.watching.looking import Looking
from unstuck.watching.recent import recent, wiring
from unstuck.watching.recorder import Follower, Recorder
from unstuck.watching.stalls import Moving, Stall, Stalls
from unstuck.watching.store import Store, new_path

# Where runs are kept, unless it is said otherwise.
FOLDER = "unstuck-runs"

# Share of a run's time that looks at its live graph may take.
SHARE = 0.01

# After so many exceptions nothing more is recorded: something is wrong that will not go away.
_MOST_TROUBLES = 20


class Watch:
    """Watches the steps of optimizers, until it is closed.

    Attributes:
        path: The file that the run is written to; None where none could be made.
        findings: Why the loss stands still, the last time it did; the strongest first.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer] | None,
        *,
        out: str | Path = FOLDER,
        share: float = SHARE,
        about: Mapping[str, object] | None = None,
        model: nn.Module | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.path: Path | None = None
        self._say = say or _to_standard_error
        self._troubles = 0
        self._stalls: dict[int, Stalls] = {}
        self._stall: dict[int, Stall] = {}
        self._broken: dict[int, tuple[int, str]] = {}
        self._look: Look | None = None
        self._closed = False
        self._store = self._open(Path(out), about or {})
        self._detach: Callable[[], None] = _nothing
        if self._store is None:
            return
        self.path = self._store.path
        self._looking = Looking(share, self._looked)
        self._recorder = Recorder(self._store, self._heard, self._looking, self._troubled, model)
        self._detach = attach(self._recorder, optimizers)

    @property
    def stalled(self) -> bool:
        """Whether the loss stands still at present."""
        return bool(self._stall)

    @property
    def steps(self) -> int:
        """How many steps were seen; of several optimizers, of the one that made most."""
        return 0 if self._store is None else max((one.step for one in self._recorder.followers), default=0)

    def close(self, state: str = "finished") -> None:
        """Stop watching, and write down how the run ended."""
        if self._closed or self._store is None:
            return
        self._closed = True
        self._detach()
        self._looking.give_up()
        self._recorder.go_through()
        for follower in self._recorder.followers:
            if follower.wanted:
                self._diagnose(follower, None)
        self._store.close(state)

    def end(self, state: str) -> None:
        """Close, and say where the run can be seen."""
        steps, path = self.steps, self.path
        self.close(state)
        if path is None:
            return
        if steps == 0:
            self._say("no step of a torch.optim optimizer was seen: there is nothing to show")
        else:
            self._say(f"{steps:,} steps recorded: unstuck show {path}")

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if error is None else f"{type(error).__name__}: {error}")

    def _open(self, folder: Path, about: Mapping[str, object]) -> Store | None:
        if os.environ.get("RANK", "0") not in {"", "0"}:
            return None  # of several processes the first writes
        try:
            return Store(new_path(folder), about, self._say)
        except (RunError, OSError) as error:
            self._say(f"{error}; the run is not recorded")
            return None

    # Called by the thread that writes.

    def _heard(self, follower: Follower, step: int, loss: float, rate: float | None) -> None:
        stalls = self._stalls.get(follower.number)
        if stalls is None:
            stalls = self._stalls[follower.number] = Stalls()
        if not math.isfinite(loss):
            if follower.loss is not None and follower.number not in self._broken:
                self._break(follower, step, "loss")
            return
        told = stalls.add(loss, rate)
        if isinstance(told, Stall):
            self._stand_still(follower, told)
        elif isinstance(told, Moving):
            self._move(follower, told)

    def _stand_still(self, follower: Follower, stall: Stall) -> None:
        self._stall[follower.number] = stall
        message = f"the loss has stopped improving since step {stall.since}: it stays at {stall.level:.4g}"
        self._event(follower, stall.step, "stall", message, asdict(stall))
        if self._looking.why_not:
            self._diagnose(follower, None)
        else:
            follower.wanted = True

    def _move(self, follower: Follower, moving: Moving) -> None:
        self._stall.pop(follower.number, None)
        follower.wanted = False
        message = f"the loss improves again since step {moving.since}: it is at {moving.level:.4g}"
        self._event(follower, moving.step, "moving", message, asdict(moving))

    def _break(self, follower: Follower, step: int, what: str) -> None:
        self._broken[follower.number] = (step, what)
        level = follower.sign * math.nan
        known = Recent(step, step, level, 1.0, not_finite=step, broken=what)
        self._conclude(follower, step, conclude_live(known, None), None)

    # Called by the thread that trains.

    def _looked(self, look: Look | None, why_not: str) -> None:
        follower = self._looking.subject
        if look is not None and isinstance(follower, Follower):
            self._look = look
            document = json.dumps(_finite(asdict(look)))
            row = (follower.number, look.step, self._recorder.now, look.seconds, look.gradients, document)
            if self._store is not None:
                self._store.put(schema.LOOKS, row)
            if follower.wanted:
                self._diagnose(follower, look)
            return
        message = f"the live graph is not looked at: {why_not}"
        for follower in self._recorder.followers:
            self._event(follower, follower.step, "note", message, {})
            if follower.wanted:
                self._diagnose(follower, None)

    def _diagnose(self, follower: Follower, look: Look | None) -> None:
        follower.wanted = False
        stall = self._stall.get(follower.number)
        if stall is None:
            return
        known = recent(
            follower.samples,
            since=stall.since,
            until=follower.step,
            level=stall.level,
            scale=max(abs(stall.level), sys.float_info.min),
            wiring=wiring(follower.model_now(), self._recorder.listed()),
        )
        self._conclude(follower, follower.step, conclude_live(known, look), look)

    def _conclude(
        self, follower: Follower, step: int, findings: tuple[Finding, ...], look: Look | None
    ) -> None:
        self.findings = findings
        if not findings:
            message = (
                "not sure why"
                + ("" if look is not None else ": the live graph was not looked at")
                + "; `unstuck diagnose` takes a training apart and tries remedies"
            )
            self._event(follower, step, "finding", message, {"cause": None})
        for finding in findings:
            message = (
                f"{finding.cause.value} ({100 * finding.confidence:.0f} % sure): {finding.explanation} "
                f"What to do: {finding.advice}"
            )
            self._event(follower, step, "finding", message, asdict(finding))

    def _event(
        self, follower: Follower, step: int, kind: str, message: str, document: dict[str, Any]
    ) -> None:
        if kind != "note":
            self._say(f"step {step}: {message}")
        row = (follower.number, step, self._recorder.now, kind, message, json.dumps(_finite(document)))
        if self._store is not None:
            self._store.put(schema.EVENTS, row)

    def _troubled(self, error: Exception) -> None:
        """Write down that something in here went wrong; the training goes on."""
        self._troubles += 1
        if self._store is not None:
            row = (0, 0, self._recorder.now, "error", reason(error), "{}")
            self._store.put(schema.EVENTS, row)
        if self._troubles == 1:
            self._say(f"something went wrong in unstuck, and the training goes on: {reason(error)}")
        if self._troubles >= _MOST_TROUBLES:
            self._detach()


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    out: str | Path = FOLDER,
    share: float = SHARE,
) -> Watch:
    """Watch a training loop: one line before it, and nothing in it.

    Every step is written down, the loss is tested for a stall, and on a stall the live graph is looked at; what is
    found is printed, kept in the file that `unstuck show` reads, and in `findings`. Nothing of the training is
    changed, not by one bit, and no failure in here reaches it.

    Args:
        model: What is trained.
        optimizer: What trains it, or several.
        out: The folder that the run's file is written to.
        share: Of the time, that looks at the live graph may take; 0 turns them off.

    Returns:
        What has `close()` and is a context manager; at the end of the process it closes by itself.

    Raises:
        UnstuckError: An argument is not what it must be.
    """
    optimizers: list[Any] = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    given: Any = model
    if not isinstance(given, nn.Module):
        msg = f"`model` must be a torch.nn.Module, not {model!r:.60}"
        raise UnstuckError(msg)
    if not optimizers or not all(isinstance(one, Optimizer) for one in optimizers):
        msg = f"`optimizer` must be a torch.optim.Optimizer, or several, not {optimizer!r:.60}"
        raise UnstuckError(msg)
    if not 0.0 <= share < 1.0:
        msg = f"`share` must be a share of the time between 0 and 1, not {share!r}"
        raise UnstuckError(msg)
    return Watch(optimizers, out=out, share=share, model=model, about={"script": " ".join(sys.argv)})


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_standard_error(message: str) -> None:
    sys.stderr.write(f"unstuck: {message}\n")
    sys.stderr.flush()


def _nothing() -> None:
    """Have nothing to undo."""
