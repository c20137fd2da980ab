"""Strict JSON for machines: what is unknown or not finite is null."""

import json
import math
from typing import Any


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
