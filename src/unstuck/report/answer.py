"""What every look at a training gives back: one record, in every form that somebody may want it."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from unstuck.plain import written


@dataclass(frozen=True)
class Forms:
    """How a record is shown.

    Attributes:
        text: What a person reads, as plain text.
        render: The same as a rich renderable.
        page: As a page that works offline.
        document: As JSON, schema 1.
        figure: One of its figures, by its name.
        notebook: What a notebook shows, as HTML; None: the text.
    """

    text: Callable[[Any], str]
    render: Callable[[Any], Any]
    page: Callable[[Any], str]
    document: Callable[[Any], str]
    figure: Callable[[Any, str], Any]
    notebook: Callable[[Any], str] | None = None


class Answer:
    """`print` it, or write it as a page or as JSON."""

    _forms: ClassVar[Forms]

    @property
    def _record(self) -> Any:
        """Everything, as plain records."""
        raise NotImplementedError

    def render(self) -> Any:
        """Give what a person reads in a terminal, as a rich renderable."""
        return self._forms.render(self._record)

    def to_html(self, path: str | Path | None = None) -> str:
        """Give the report as one page that works offline; with `path`, write it there too."""
        return written(self._forms.page(self._record), path)

    def to_json(self, path: str | Path | None = None) -> str:
        """Give it as JSON, schema 1; with `path`, write it there too."""
        return written(self._forms.document(self._record), path)

    def figure(self, name: str) -> Any:
        """Give one figure of the report, a Plotly figure.

        Raises:
            MeasurementError: There is no figure of that name; the message lists those there are.
        """
        return self._forms.figure(self._record, name)

    def __str__(self) -> str:
        return self._forms.text(self._record)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        notebook = self._forms.notebook
        return f"<pre>{escape(str(self))}</pre>" if notebook is None else notebook(self._record)
