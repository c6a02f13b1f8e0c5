"""What every page is made with: templates that escape, our own files, the security policy's hashes."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from unstuck.report.figures.theme import MINUS


def environment() -> Environment:
    """Give what fills in the templates; whatever is filled in is escaped."""
    made = Environment(
        loader=PackageLoader("unstuck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = _typographic
    made.filters["code"] = _code
    return made


def _source(name: str) -> str:
    return (files("unstuck.report") / "templates" / name).read_text(encoding="utf-8")


def _typographic(text: str) -> str:
    """Write a minus before a digit as a minus."""
    return _unbroken(re.sub(r"(?<!\w)-(?=[\d.])|(?<=e)-(?=\d)", MINUS, text))


def _code(text: str) -> Markup:
    """Set what stands in backticks as code; everything is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", _unbroken(str(escape(text)))))  # noqa: S704 - escaped


def _unbroken(text: str) -> str:
    """Keep a percent sign on the line of its number."""
    return re.sub(r"(?<=\d) (?=%)", "\u00a0", text)


def page(
    template: str,
    figures: Sequence[dict[str, Any]],
    *,
    document: str = "",
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    **contents: Any,
) -> str:
    """Write a whole page. It loads nothing: the figures, their library and the data are inside.

    Args:
        template: Its name.
        figures: As `shown` gives them.
        document: To be downloaded from it.
        styles: Files of ours, beside the one of every page.
        scripts: The same.
        contents: What the template speaks of.
    """
    run = [get_plotlyjs(), *(_source(name) for name in ("page.js", *scripts))]
    return (
        environment()
        .get_template(template)
        .render(
            **contents,
            figures=figures,
            document=document,
            download=_encoded(document.encode()),
            style=Markup("".join(_source(name) for name in ("page.css", *styles))),  # noqa: S704 - our own files
            scripts=[Markup(script) for script in run],  # noqa: S704 - Plotly's own file, and ours
            # What the page's security policy knows a script by; a script that is not ours does not run.
            hashes=[_encoded(hashlib.sha256(script.encode()).digest()) for script in run],
        )
    )


def shown(name: str, figure: go.Figure, caption: str, **more: Any) -> dict[str, Any]:
    """Give a figure to a page; its title goes into the page's own text, where it wraps, the rest to Plotly."""
    plot = json.loads(figure.to_json() or "{}")
    title = plot["layout"].pop("title")["text"]
    plot["layout"]["margin"] = {**plot["layout"]["template"]["layout"]["margin"], "t": 44}
    return {"name": name, "title": title, "caption": caption, "plot": plot, **more}


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
