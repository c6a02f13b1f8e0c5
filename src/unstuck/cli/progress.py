"""How far it has got: a bar on a terminal, a line for every stage where the output is piped."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unstuck.progress import Told


@contextmanager
def shown(console: Console, *, left: bool = False) -> Generator[Told]:
    """Give a function that is told the stage and the share of the whole that is done.

    On a terminal the time that has passed stands beside the bar, or with `left` the time that is left.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn() if left else TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda stage, share: progress.update(task, description=stage, completed=share)


def _lines(console: Console) -> Told:
    last = ""

    def tell(stage: str, share: float) -> None:
        nonlocal last
        if stage != last:
            console.print(f"{share:4.0%} {stage}", markup=False, highlight=False, soft_wrap=True)
            last = stage

    return tell
