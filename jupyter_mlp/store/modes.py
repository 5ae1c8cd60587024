"""How this process runs the cells: interactively, as a pipeline, or to verify a snapshot (DESIGN, section 2).

The process that starts a kernel says so in its environment; nothing else in the package reads these variables.
"""

from __future__ import annotations

import os


def reuses() -> bool:
    """Whether a known query may be answered from the record; a verification runs every query again."""
    return os.environ.get("MLP_VERIFY") != "1"


def replays() -> bool:
    """Whether a known training run is replayed from its record instead of run again."""
    return os.environ.get("MLP_REPLAY") == "1"
