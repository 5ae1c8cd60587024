"""Amounts of memory as people write them: 512MB, 4GB, 4g; a thousand is 1024 here, as Spark and Linux count."""

from __future__ import annotations

import re

from jupyter_mlp.core.errors import InvalidInputError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


def read(text: str, name: str) -> int:
    """Return the bytes that the setting `name` says.

    Raises:
        InvalidInputError: it is no amount of memory.

    Example:
        >>> read("4GB", "serving_memory")
        4294967296
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError(f"The setting {name} is {text!r}, not an amount of memory.", f'Write it like {name} = "4GB" or "512MB".')
    return int(float(found[1]) * _UNITS[found[2].lower()])
