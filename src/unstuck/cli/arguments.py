"""Values that people type, read strictly."""

import math
import re

import typer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")

# Powers of 1000, as they are written in the reports; of 1024 where that is said.
_SIZES = {
    "": 1.0,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "KI": 2.0**10,
    "MI": 2.0**20,
    "GI": 2.0**30,
    "TI": 2.0**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*((?:[KMGT]I?)?)B?", re.IGNORECASE)


def size(text: str | None) -> float | None:
    """Read a number of bytes: "512MB", "24GB", "1.5GiB"; None is none.

    Raises:
        typer.BadParameter: It is none, or less than a byte.
    """
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    value = float(found[1]) * _SIZES[found[2].upper()] if found else 0.0
    if value < 1.0:
        msg = f"'{text}' is not a size above zero such as 512MB or 24GB"
        raise typer.BadParameter(msg, param_hint="--memory")
    return value


def finite(loss: float | None) -> float | None:
    """Give the loss that was typed.

    Raises:
        typer.BadParameter: It is NaN or infinite, which nothing gets to.
    """
    if loss is not None and not math.isfinite(loss):
        msg = f"'{loss}' is not a finite loss to get to"
        raise typer.BadParameter(msg, param_hint="--to")
    return loss


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
