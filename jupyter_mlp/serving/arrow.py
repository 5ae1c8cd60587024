"""Arrow in a process that serves: without pandas, which the first `pa.array()` would import, half a second in which all wait."""

from __future__ import annotations

import functools
import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Say that pandas is not there."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


@functools.cache
def keep_from_pandas() -> None:
    """Let Arrow look for pandas now, and find none; it wants to tell a list from a Series, and looks only once.

    Who asks it for a DataFrame still gets one.
    """
    import pyarrow as pa

    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([""])
    finally:
        sys.meta_path.remove(hidden)
