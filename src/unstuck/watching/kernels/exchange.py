"""A function of PyTorch's with one of ours in its place, for a while."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def exchanged(holder: Any, name: str, ours: Callable[..., Any]) -> Generator[None]:
    """Let `ours` be what the holder has under this name, its own or inherited, and put that back afterwards.

    Somebody else may have put a function around ours meanwhile: theirs then still calls ours, and stays.
    """
    original, own = getattr(holder, name), name in vars(holder)
    setattr(holder, name, ours)
    try:
        yield
    finally:
        if getattr(holder, name) is ours:
            if own:
                setattr(holder, name, original)
            else:
                delattr(holder, name)
