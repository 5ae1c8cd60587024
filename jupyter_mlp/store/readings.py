"""What texts read, kept between kernels: a question asked before is understood without loading a parser."""

from __future__ import annotations

import json
import os
from pathlib import Path

from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.queries import READER, Query


def read(root: Path, text: str) -> Query:
    """Return what `text` reads, from `<root>/cache/readings` where it was read before.

    Raises:
        InvalidInputError: it is empty, or holds more than one statement.
    """
    path = root / "cache" / "readings" / f"{digest(READER, text)}.json"
    try:
        return Query.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # never read, or half a file after a power cut: both are read again
    from jupyter_mlp.core import sql_reader

    found = sql_reader.read(text)
    _keep(path, found)
    return found


def _keep(path: Path, query: Query) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_text(json.dumps(query.to_dict()), encoding="utf-8")
        beside.replace(path)
    except OSError:
        return  # a full or read-only disk: it is read again next time
