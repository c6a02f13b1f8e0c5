"""How far something is: who wants to know is told what is done next, and which share of the whole is behind."""

from collections.abc import Callable

Told = Callable[[str, float], None]


def untold(stage: str, share: float) -> None:
    """Tell nobody."""
    del stage, share
