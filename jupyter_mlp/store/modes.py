"""How this process runs the cells: interactively, as a pipeline, or to verify a snapshot (DESIGN, section 2).

The process that starts a kernel says so in its environment; nothing else in the package reads these variables.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def verifying() -> bool:
    """Whether this process re-runs a snapshot, in a scratch workspace that is dropped afterwards."""
    return os.environ.get("MLP_VERIFY") == "1"


def reuses() -> bool:
    """Whether a known query may be answered from the record; a verification runs every query again."""
    return not verifying()


def replays() -> bool:
    """Whether a known training run is replayed from its record instead of run again."""
    return os.environ.get("MLP_REPLAY") == "1"


def running_shell() -> Any:
    """Return the IPython shell of this process, or None, without importing IPython into a script."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


def note_cell_id(shell: Any, cell_id: str | None) -> None:
    """Keep the id that the front end's notebook has for the cell that begins to run."""
    shell._mlp_cell_id = cell_id or ""


def running_cell_id() -> str:
    """Return the id of the running cell in its notebook; empty where no front end said it."""
    return str(getattr(running_shell(), "_mlp_cell_id", ""))


def running_cell(shell: Any) -> int:
    """Return the execution count of the cell that runs now; releases of IPython count up before or after it."""
    return len(shell.history_manager.input_hist_raw) - 1
