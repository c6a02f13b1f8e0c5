"""`unstuck run`: the script runs, and from the moment it imports PyTorch its steps are watched."""

import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from unstuck.watching.saying import say
from unstuck.watching.script import Script, once_imported, without_us


def run(script: Script, *, out: str, share: float, board: str | None = None, path: int = 0) -> None:
    """Run it, and watch; what it raises comes through, and with it the exit code.

    Raises:
        RunError: There is no such script; whatever else comes, comes from the script.
    """
    script.check()
    session = _Session(script, out, share, board, path)
    once_imported("torch", session.begin)
    try:
        script.run()
    except SystemExit as end:
        session.end("finished" if end.code in (None, 0) else f"exit code {end.code}")
        raise
    except BaseException as error:
        session.end(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        _leave_us_out()
        raise
    session.end("finished")


class _Session:
    """The watch over a script; there is none before PyTorch is there."""

    def __init__(self, script: Script, out: str, share: float, board: str | None, path: int) -> None:
        self._script, self._out, self._share, self._board = script, out, share, board
        self._path = path
        self._folder = _present()
        self._watch: Any = None

    def begin(self) -> None:
        """Watch from now on."""
        try:
            watching = import_module("unstuck.watching.watch")
            self._watch = watching.Watch(
                None,
                out=self._out if _present() == self._folder else self._folder / self._out,
                share=self._share,
                path=self._path,
                writer=self._writer(),
                about={"script": self._script.name, "arguments": list(self._script.arguments)},
            )
        except Exception as error:  # whatever it is, the script runs
            say(f"cannot watch this run: {type(error).__name__}: {error}")

    def _writer(self) -> Any:
        """What writes for TensorBoard, if that is asked for and installed."""
        if self._board is None:
            return None
        try:
            return import_module("torch.utils.tensorboard").SummaryWriter(self._board)
        except ImportError:
            say("nothing goes to TensorBoard: pip install tensorboard")
            return None

    def end(self, state: str) -> None:
        """Say what there is to say at the end."""
        watch = self._watch
        try:
            if watch is None:
                say("the script never imported torch: there is nothing to show")
            else:
                watch.end(state)
        except Exception as error:
            say(f"{type(error).__name__}: {error}")


def _present() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it has been removed
        return Path()


def _leave_us_out() -> None:
    """Let the interpreter report the exception as if the script had been run by itself."""
    report = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        report(kind, error.with_traceback(without_us(trace)), without_us(trace))

    sys.excepthook = hook
