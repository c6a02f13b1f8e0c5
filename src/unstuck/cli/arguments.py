"""Values that people type, read strictly."""

import re

import typer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")


def seconds(text: str) -> float:
    """Read a duration: "60s", "2m", "1h", or "90" for seconds.

    Raises:
        typer.BadParameter: It is none, or zero.
    """
    found = _DURATION.fullmatch(text.strip())
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if value <= 0:
        msg = f"'{text}' is not a time above zero such as 90s, 2m or 1h"
        raise typer.BadParameter(msg, param_hint="--budget")
    return value
