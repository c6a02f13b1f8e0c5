"""A run that is watched: written down, tested for a stall at every step, and looked into when there is one."""

import atexit
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import distributed as dist
from torch import nn
from torch.optim import Optimizer

from unstuck.errors import RunError, UnstuckError
from unstuck.findings.records import Finding
from unstuck.objective.sampling import reason
from unstuck.processes import alone
from unstuck.watching.alarms import Alarms
from unstuck.watching.defaults import FEWEST_PLACES, FOLDER, SHARE
from unstuck.watching.files import schema
from unstuck.watching.files.store import Store, new_path
from unstuck.watching.files.trail import Trail
from unstuck.watching.hooks import attach
from unstuck.watching.recorder import Recorder
from unstuck.watching.saying import say
from unstuck.watching.scalars import Forwarder, Writer, scalars

# After so many exceptions nothing more is recorded: something is wrong that will not go away.
_MOST_TROUBLES = 20

# Seconds of processor that other processes, which the script started, have used if something was trained there.
_WORK = 1.0


class Watch:
    """Watches the steps of optimizers, until it is closed; at the end of the process it closes by itself.

    Attributes:
        path: The file that the run is written to; None where none could be made.
    """

    def __init__(  # noqa: PLR0913 - each a choice of the user's
        self,
        optimizers: Sequence[Optimizer] | None,
        *,
        out: str | Path = FOLDER,
        share: float = SHARE,
        path: int = 0,
        about: Mapping[str, object] | None = None,
        model: nn.Module | None = None,
        writer: Writer | None = None,
        say: Callable[[str], None] = say,
    ) -> None:
        self._say = say
        self._troubles = 0
        self._detach: Callable[[], None] = _nothing
        self._trail: Trail | None = None
        self._store = self._open(Path(out), about or {})
        self.path = None if self._store is None else self._store.path
        if self._store is None:
            return
        self._alarms = Alarms(self._store, self._say, share)
        self._recorder = Recorder(
            self._store, self._alarms.hear, self._alarms.refused, self._alarms.looking, self._troubled, model
        )
        self._alarms.telling.recorder = self._recorder
        self._forwarder = None if writer is None else Forwarder(writer, self.scalars, self.messages)
        self._store.gather = self._gather
        self._detach = attach(self._recorder, optimizers)
        if path:
            self._trail = Trail(path, self._store.path, self._say, model)
            self._trail.attach(optimizers)
        atexit.register(self.close)

    @property
    def recorder(self) -> Recorder | None:
        """What hears of the steps."""
        return None if self._store is None else self._recorder

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why the loss stands still, the last time it did; the strongest first."""
        return () if self._store is None else self._alarms.telling.findings

    @property
    def stalled(self) -> bool:
        """Whether the loss stands still at present."""
        return self._store is not None and bool(self._alarms.standing)

    @property
    def steps(self) -> int:
        """How many steps were seen; of several optimizers, of the one that made most."""
        return 0 if self._store is None else max((one.step for one in self._recorder.followers), default=0)

    def scalars(self) -> dict[str, float]:
        """Give the latest numbers by name, as charts want them: `gradient_norm`, `stalled`, `lambda_max`, ..."""
        if self._store is None:
            return {}
        return scalars(self._recorder.followers, self._alarms.look, self.findings, stalled=self.stalled)

    def messages(self) -> list[tuple[int, str, str]]:
        """Give what was said since the last call: step, kind (`stall`, `finding`, ...) and text."""
        said: list[tuple[int, str, str]] = []
        while self._store is not None and self._alarms.telling.messages:
            said.append(self._alarms.telling.messages.popleft())
        return said

    def close(self, state: str = "finished") -> None:
        """Stop watching, and write down how the run ended."""
        store = self._store
        if store is None or store.closed:
            return
        self._detach()
        atexit.unregister(self.close)
        self._alarms.looking.give_up()
        # The thread may be in the midst of hearing of a stall, and what is said last rests on that.
        store.stop()
        self._gather()
        if self._trail is not None:
            self._trail.close()
        self._alarms.finish()
        store.close(state)

    def end(self, state: str) -> None:
        """Close, and say where the run can be seen."""
        self.close(state)
        if self._store is None:
            return
        if self._store.lacking:
            self._say(f"{self.steps:,} steps seen, but not all could be written to {self._store.name}")
        elif self.steps:
            self._say(f"{self.steps:,} steps recorded: unstuck show {self._store.name}")
        elif self.findings:
            self._say("no step was made: there is nothing to show")
        else:
            # Processes that spent time of their own may be where the training was.
            hint = "; in processes that the script starts, call unstuck.watch" if _children_worked() else ""
            if self._recorder.aimless:
                hint = "; losses were differentiated, but weights that are changed by hand are not followed"
            self._say(f"no step of a torch.optim optimizer was seen: there is nothing to show{hint}")

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if error is None else f"{type(error).__name__}: {error}")

    def _open(self, folder: Path, about: Mapping[str, object]) -> Store | None:
        if not _first():
            return None
        try:
            return Store(new_path(folder), about, self._say)
        except (RunError, OSError) as error:
            self._say(f"{error}; the run is not recorded")
            return None

    def _gather(self) -> None:
        """Go through what has happened; the thread that writes calls it."""
        try:
            with alone():
                self._recorder.go_through()
            if self._forwarder is not None:
                self._forwarder.forward(self.steps)
            if self._trail is not None:
                self._trail.write()
        except Exception as error:  # the training must not hear of it
            self._troubled(error)

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
    path: int = 0,
    writer: Writer | None = None,
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
        path: Keep so many snapshots of the weights, spread over the run however long it is, in files beside the
            run's: for `unstuck surface --run`. They take no more than a gigabyte; 0 keeps none.
        writer: A `torch.utils.tensorboard.SummaryWriter`, or what has its `add_scalar` and `add_text`: gets the
            recorded numbers and the findings as well.

    Returns:
        What has `close()` and is a context manager; at the end of the process it closes by itself.

    Raises:
        UnstuckError: An argument is not what it must be.
    """
    several: list[Any] = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    optimizers = [_unwrapped(one) for one in several]
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
    if path and path < FEWEST_PLACES:
        msg = f"`path` must be 0, or {FEWEST_PLACES} snapshots of the weights at least, not {path!r}"
        raise UnstuckError(msg)
    if writer is not None and not (hasattr(writer, "add_scalar") and hasattr(writer, "add_text")):
        msg = f"`writer` must have add_scalar and add_text, as a SummaryWriter has, not {writer!r:.60}"
        raise UnstuckError(msg)
    about = {"script": sys.argv[0], "arguments": sys.argv[1:]}
    return Watch(optimizers, out=out, share=share, path=path, model=model, writer=writer, about=about)


def _unwrapped(optimizer: Any) -> Any:
    """Take off what frameworks put around an optimizer, as accelerate does: the hooks are the optimizer's own."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def _first() -> bool:
    """Whether this is the only process of a training, or the first, as whoever has started them has told it."""
    met = dist.is_available() and dist.is_initialized()
    return dist.get_rank() == 0 if met else os.environ.get("RANK", "0") in {"", "0"}


def _children_worked() -> bool:
    times = os.times()
    return times.children_user + times.children_system > _WORK


def _nothing() -> None:
    """Have nothing to undo."""
