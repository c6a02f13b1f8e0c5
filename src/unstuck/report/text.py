"""What is laid out for a terminal, as plain text."""

import io

from rich.console import Console, RenderableType


def as_text(laid_out: RenderableType, width: int) -> str:
    """Write it in lines of that width, without any terminal code."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    console.print(laid_out)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
