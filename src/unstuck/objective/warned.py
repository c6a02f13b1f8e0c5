"""What the user's code warns of is shown once, however often it is evaluated."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def warned_once() -> Generator[None]:
    """Show no warning twice inside.

    Python forgets what it has shown whenever a filter of warnings is changed, as libraries do at every call.
    """
    show = warnings.showwarning
    shown: set[tuple[str, type[Warning]]] = set()

    def once(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        key = str(message), category
        if key not in shown:
            shown.add(key)
            show(message, category, *where, **more)

    warnings.showwarning = once
    try:
        yield
    finally:
        warnings.showwarning = show
