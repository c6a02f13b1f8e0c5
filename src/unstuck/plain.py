"""Plain data, as JSON knows them, and plain text, as files hold it."""

import json
import math
from pathlib import Path
from typing import Any, cast


def finite(value: Any) -> Any:
    """Give the same with None in the place of NaN and infinities, which JSON does not know, however deep."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(document: dict[str, Any]) -> str:
    """Write a document as JSON, in ASCII, so that it survives any terminal and any pipe."""
    return json.dumps(document, indent=2, allow_nan=False)


def written(text: str, path: str | Path | None) -> str:
    """Write a text to a file, if one is named, and give it back."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
