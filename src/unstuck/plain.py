"""Plain data, as JSON knows them."""

import math
from typing import Any, cast


def finite(value: Any) -> Any:
    """Give the same with None in the place of NaN and infinities, which JSON does not know, however deep."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
