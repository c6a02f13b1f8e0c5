"""Where a command's answer goes: to standard output for people or programs, and to files."""

import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from unstuck.cli import INTERRUPTED
from unstuck.cli.endings import DONE
from unstuck.cli.loading import say
from unstuck.cli.output import prepare, put, write

STANDARD_OUTPUT = "-"


@runtime_checkable
class Answer(Protocol):
    """What can be shown in every form."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        ...

    def render(self) -> Any:
        """Give it for a terminal."""
        ...

    def to_html(self) -> str:
        """Give it as a page."""
        ...

    def to_json(self) -> str:
        """Give it as JSON."""
        ...


@dataclass(frozen=True)
class Delivery:
    """Where the answer is to go, made sure of before anything is measured.

    Attributes:
        html: The page's file.
        json: The document's file.
        for_programs: Whether the document goes to standard output, in the place of what people read.
        errors: Where everything else is said.
    """

    html: Path | None
    json: Path | None
    for_programs: bool
    errors: Console

    @classmethod
    def to(cls, html: str | None, json: str | None) -> "Delivery":
        """Prepare what the options `--html` and `--json` name.

        Raises:
            OutputError: A file cannot be written.
        """
        page = prepare(html) if html else None
        document = prepare(json) if json and json != STANDARD_OUTPUT else None
        return cls(page, document, json == STANDARD_OUTPUT, Console(stderr=True))

    @classmethod
    def nowhere(cls) -> "Delivery":
        """Of several processes only one delivers."""
        return cls(None, None, for_programs=False, errors=Console(quiet=True))

    @contextmanager
    def quiet(self) -> Generator[Console]:
        """Keep what the user's own code prints from getting between the lines of the answer."""
        with redirect_stdout(sys.stderr):
            yield self.errors

    def deliver(self, answer: Answer) -> int:
        """Write the answer everywhere; gives the exit code."""
        if self.for_programs:
            put(answer.to_json() + "\n", sys.stdout)
        elif sys.stdout.isatty():
            Console(file=sys.stdout).print(answer.render())
        else:
            put(f"{answer}\n", sys.stdout)
        for path, text in ((self.html, answer.to_html), (self.json, answer.to_json)):
            if path is not None:
                write(path, text())
                say(self.errors, f"wrote {path}")
        if answer.interrupted:
            say(self.errors, "interrupted: this is what was known by then")
            return INTERRUPTED
        return DONE
