"""What every page is made with: templates that escape, our own files, the security policy's hashes."""

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

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


def source(name: str) -> str:
    """Read one of our own files."""
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


def digest(script: str) -> str:
    """What the page's security policy knows a script by; a script that is not ours does not run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def plotted(figure: go.Figure) -> tuple[str, dict[str, Any]]:
    """Take a figure's title off, which goes into the page's own text, where it wraps; the rest is for Plotly."""
    plot = json.loads(figure.to_json() or "{}")
    title = plot["layout"].pop("title")["text"]
    plot["layout"]["margin"] = {**plot["layout"]["template"]["layout"]["margin"], "t": 44}
    return title, plot
