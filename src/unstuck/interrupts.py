"""Ctrl-C: it must not come in the middle of what has to be done as a whole, and what is known by then is kept."""

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar, cast

Result = TypeVar("Result")


def cut_short(work: Callable[[], None]) -> bool:
    """Do it; say whether Ctrl-C ended it."""
    try:
        work()
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def noted() -> Generator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C has come, also where what it raised has become another error.

    What comes in the middle of an import may: modules are left half made, and whoever uses them fails.
    """
    came = False
    original = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        cast("Callable[[int, FrameType | None], None]", original)(number, frame)

    if threading.current_thread() is not threading.main_thread() or not callable(original):
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, original)


class Interrupts:
    """Holds SIGINT back, except where the user's own code runs, which may take long and can be broken off."""

    def __init__(self) -> None:
        self._open = False
        self._pending = False
        self._original: Any = None
        self._raised: BaseException | None = None

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold interrupts back until the end of the block; one that came meanwhile is delivered then."""
        original = signal.getsignal(signal.SIGINT)
        # Python runs signal handlers in the main thread only; one that is not a function raises nothing.
        if threading.current_thread() is not threading.main_thread() or not callable(original):
            yield
            return
        self._original = original
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, original)
            self._deliver()

    def through(self, function: Callable[[], Result]) -> Result:
        """Call the user's code, where an interrupt is delivered at once.

        One that came in a weak reference's callback or a finalizer, where Python ignores what is raised, or that the
        code caught itself, is raised again at its end.
        """
        try:
            self._open = True
            self._deliver()
            return function()
        finally:
            self._open = False
            raised, self._raised = self._raised, None
            if raised is not None and sys.exception() is not raised:
                raise raised

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self._pending = True
            return
        self._open = False  # a second one must not come in the middle of clearing up after the first
        try:
            self._original(number, frame)
        except BaseException as error:
            self._raised = error
            raise
        self._open = True

    def _deliver(self) -> None:
        if self._pending:
            self._pending = False
            self._original(signal.SIGINT, None)
