"""The private folder of this environment's local Spark server, with all that is written down of it."""

from __future__ import annotations

import sys
from pathlib import Path

from jupyter_mlp.core.identity import digest
from jupyter_mlp.store import runtime as runtimes


def runtime_folder() -> Path:
    """Return the folder: two environments never meet in one server."""
    import pyspark

    environment = digest(sys.prefix, sys.version_info[:2], pyspark.__version__)[:12]
    return runtimes.folder(f"spark-{environment}")


def touch(runtime: Path) -> None:
    """Say that the server is in use."""
    (runtime / "used").touch()
