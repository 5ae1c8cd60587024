"""Folders for what runs now and is not kept: sockets, and what belongs to servers of this user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from jupyter_mlp.core.errors import JobError


def folder(name: str) -> Path:
    """Return a folder of this user's that nobody else can look into; made where it is not there.

    Raises:
        JobError: somebody else made it.
    """
    found = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"jupyter-mlp-{os.getuid()}" / name
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    if found.parent.stat().st_uid != os.getuid():
        raise JobError(f"{found.parent} belongs to another user.", "Set XDG_RUNTIME_DIR to a folder of your own.")
    os.chmod(found.parent, 0o700)
    return found
