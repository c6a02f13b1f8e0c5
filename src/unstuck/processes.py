"""Several processes that work on one training, as `torchrun` starts them: who speaks, what is summed, what is agreed.

Everything here is the identity where there is one process, so that what calls it need not ask. With several, every
call is one that all of them must make, in the same order: what they do next may depend only on what is the same in
all of them. Numbers that differ between processes, clocks and memory before all, are therefore agreed on first.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import psutil
import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]  # documented

from unstuck.errors import MeasurementError, TrainingError, UnstuckError

Result = TypeVar("Result")

# How long a process waits for the others before it takes them for lost. What one does while the rest wait costs some
# gradients of a sample that is chosen to be evaluated in seconds.
_PATIENCE = timedelta(minutes=10)

# How long a process in which something has failed waits for the others to come to the same place. Of a divided model
# they may never do so: they wait for it inside of the model.
_PATIENCE_AFTER_FAILURE = timedelta(minutes=1)

# How long a process that has failed waits to hear whether another has spoken already.
_HEARING = timedelta(seconds=5)


_LOST = "another process has ended or does not answer, and so ends this one"


class LostError(BaseException):
    """Another process has ended, or does not answer: nothing can go on.

    No `Exception`, since what is left out of a diagnosis when it fails must not swallow the end of it all.

    Attributes:
        interrupted: By Ctrl-C.
    """

    def __init__(self, message: str, *, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted


@dataclass
class _World:
    """What is known of the other processes.

    Attributes:
        whole: The default process group that `talk` was made beside; another one may be made later.
        talk: A group for tensors on the CPU, whatever the default group is made for.
    """

    whole: Any = None
    talk: Any = None


class _Thread(threading.local):
    """Whether what a thread does is for this process by itself."""

    alone = False


_world, _thread = _World(), _Thread()


def count() -> int:
    """How many processes work together."""
    there = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if there and not _thread.alone else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def started_together() -> bool:
    """Whether `torchrun`, or what sets the same variables, has started this process with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def speaks() -> bool:
    """Whether this process prints and writes: the first one does."""
    return rank() == 0 and not (started_together() and os.environ["RANK"] != "0")


def join() -> None:
    """Meet the other processes that were started together, unless the user's own code has done so.

    Raises:
        LostError: They do not come.
    """
    if started_together() and dist.is_available() and not dist.is_initialized():
        with _listening():
            dist.init_process_group()


def leave() -> None:
    """Part from the others, at the very end."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def end_at_once(code: int) -> NoReturn:
    """End this process without waiting for what it has begun with others that are lost, as a usual exit would."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def first_to_speak() -> bool:
    """Whether no other process has said yet why all of them end: one line is enough.

    The store that `torchrun` keeps counts who asks; it outlives a process that fails. Without it the first process
    speaks.
    """
    if not started_together():
        return True
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=_HEARING, wait_for_workers=False)
        return store.add("unstuck/ended", 1) == 1
    except Exception:  # no store, or no answer from it
        return os.environ["RANK"] == "0"


@contextmanager
def alone() -> Generator[None]:
    """Let this process work by itself inside, as if there were no others: nothing is summed or agreed on."""
    before = _thread.alone
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = before


def total(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place; bit for bit the same in all of them afterwards."""
    if count() > 1:
        with _listening():
            dist.all_reduce(tensor, group=_group(tensor))
    return tensor


def shared(value: Result) -> Result:
    """Give what the first process holds: any object that can be pickled."""
    if count() == 1:
        return value
    held = [value]
    with _listening():
        dist.broadcast_object_list(held, src=0, group=_talk())
    return held[0]


def gathered(value: Result) -> list[Result]:
    """Give what each process holds, in their order."""
    if count() == 1:
        return [value]
    held: list[Any] = [None] * count()
    with _listening():
        dist.all_gather_object(held, value, group=_talk())
    return cast("list[Result]", held)


def brought(value: Result) -> list[Result] | None:
    """Give the first process what each holds, in their order; None to the others."""
    if count() == 1:
        return [value]
    held: list[Any] | None = [None] * count() if rank() == 0 else None
    with _listening():
        dist.gather_object(value, held, dst=0, group=_talk())
    return cast("list[Result] | None", held)


def agreed(value: float) -> float:
    """Give the first process's number."""
    if count() == 1:
        return value
    held = torch.tensor([value], dtype=torch.float64)
    with _listening():
        dist.broadcast(held, src=0, group=_talk())
    return float(held)


def least(value: float) -> float:
    """Give the smallest number of all."""
    if count() == 1:
        return value
    held = torch.tensor([value], dtype=torch.float64)
    with _listening():
        dist.all_reduce(held, dist.ReduceOp.MIN, group=_talk())
    return float(held)


def every(*, true: bool) -> bool:
    """Whether it is true in all processes."""
    return least(float(true)) > 0.0


def free_memory() -> float:
    """Bytes that are free, for each of the processes on this machine."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if count() > 1 else 1
    return float(psutil.virtual_memory().available) / here


@contextmanager
def interrupts_end_all() -> Generator[None]:
    """Let Ctrl-C end all of several processes: no two of them are at the same place when it comes.

    So does what `torchrun` sends to those that are left where one has died: they would end without a word.

    Raises:
        LostError: It came.
    """
    if count() == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> None:
        interrupted = number == signal.SIGINT
        raise LostError("interrupted" if interrupted else _LOST, interrupted=interrupted)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def clock() -> float:
    """Seconds by the first process's clock, the only one that decides."""
    return agreed(time.monotonic())


def once(function: Callable[[], Result]) -> Result:
    """Let the first process do it alone, while the others wait, and give all of them what came of it.

    Raises:
        MeasurementError: It failed; in one process, its own error.
    """
    if count() == 1:
        return function()
    came: tuple[Any, str] = (None, "")
    if rank() == 0:
        with alone():
            try:
                came = (function(), "")
            except Exception as error:
                came = (None, _said(error))
    value, failure = shared(came)
    if failure:
        raise MeasurementError(failure)
    return cast("Result", value)


def together(function: Callable[[], Result]) -> Result:
    """Do it in every process; where it fails in one of them, it fails in all.

    Raises:
        UnstuckError: It failed elsewhere; where it failed, its own error.
        LostError: It failed here, and the others do not come to hear it.
    """
    if count() == 1:
        return function()
    failure: Exception | None = None
    value: Any = None
    try:
        value = function()
    except Exception as error:
        failure = error
    if _all_went_well(failure):
        return cast("Result", value)
    kind = type(failure) if isinstance(failure, UnstuckError) else TrainingError
    said = gathered(None if failure is None else (kind, _said(failure)))
    if failure is not None:
        raise failure
    number, (kind, reason) = next((number, failed) for number, failed in enumerate(said) if failed)
    msg = f"process {number}: {reason}"
    raise kind(msg)


def _all_went_well(failure: Exception | None) -> bool:
    flag = torch.tensor([float(failure is not None)])
    try:
        work: Any = dist.all_reduce(flag, group=_talk(), async_op=True)
        work.wait(_PATIENCE if failure is None else _PATIENCE_AFTER_FAILURE)
    except RuntimeError as error:
        msg = _LOST if failure is None else f"process {rank()}: {_said(failure)}"
        raise LostError(msg) from error
    return float(flag) == 0.0


def _said(error: Exception) -> str:
    if isinstance(error, UnstuckError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"


def _group(tensor: Tensor) -> Any:
    """The default group may know nothing of tensors on the CPU; the user's devices it knows."""
    return _talk() if tensor.device.type == "cpu" else None


def _talk() -> Any:
    default = dist.group.WORLD
    if _world.whole is not default:
        _world.talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
        _world.whole = default
    return _world.talk


@contextmanager
def _listening() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:  # the errors of torch.distributed are all of that kind
        raise LostError(_LOST) from error
