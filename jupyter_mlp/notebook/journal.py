"""The journal of a run: one line a cell, appended when the cell is done. What is in it survives the death of every process.

    {"key": "5f0c...", "cell": 4, "count": 3, "outputs": [...], "papermill": {...}, "execution": {...}, "state": "x.jsonl", "at": 4}

A line that was cut off by a crash is no line. The executed notebook is only a view of it, written as often as its size allows.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"
_SYNC_S = 0.2


class Journal:
    """Appends lines. A killed process loses none; when the power fails, at most those of the last fraction of a second."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._sync, daemon=True)
        self._thread.start()

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        # A line begins with its own line break: behind one that a crash cut off, it is still a line.
        os.write(self._file, b"\n" + json.dumps(line, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        self._waiting.set()

    def close(self) -> None:
        """Bring everything to the disk."""
        self._over = True
        self._waiting.set()
        self._thread.join()
        os.fsync(self._file)
        os.close(self._file)

    def _sync(self) -> None:
        while not self._over:
            self._waiting.wait()
            self._waiting.clear()
            os.fdatasync(self._file)
            time.sleep(0 if self._over else _SYNC_S)  # many lines, one write to the disk


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of a journal by their keys, the newest of each; empty where there is none."""
    try:
        texts = path.read_bytes().splitlines()
    except OSError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        found[line["key"]] = line
    return found
