"""Identity of values: one canonical JSON form and one digest for everything that is compared by content."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from typing import Any


def canonical(value: Any) -> str:
    """Return the JSON text of `value` with sorted keys, so that equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_tagged)


def digest(*values: Any) -> str:
    """Return a 128-bit hexadecimal digest of JSON-like values."""
    text = "\x1f".join(canonical(value) for value in values)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plain(value: Any) -> Any:
    """Return `value` as strict JSON: no NaN or infinity, no numpy scalars, tuples as lists, keys as text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if hasattr(value, "item") and callable(value.item) and not getattr(value, "shape", ()):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def literal(text: str) -> Any:
    """Return the plain Python value that a text spells (1, 2.5, True, None, [1, 2]), or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _tagged(value: Any) -> Any:
    # The type is part of the identity: date 2013-01-01 and the text "2013-01-01" are two parameters.
    return {"__type__": type(value).__name__, "value": str(value)}
