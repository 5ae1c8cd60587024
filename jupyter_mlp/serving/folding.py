"""Brings full log files of an endpoint into the lake while nobody looks, so that none has to go before its rows are there.

Whoever supervises the endpoint calls `Folding.look` every second: it starts a process of its own, which ends when it is done, so that
serving keeps its memory and its time. Where that fails the files stay, up to the limit of the log.

    python -m jupyter_mlp.serving.folding ENDPOINT_FOLDER
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from jupyter_mlp.serving import segments
from jupyter_mlp.store.deployments import EndpointFolder

_log = logging.getLogger(__name__)
_AGAIN_S = 60.0  # after it failed
_NICE = 10


def is_due(folder: EndpointFolder) -> bool:
    """Whether a full file waits, and the records that it goes to are on this machine."""
    wanted = folder.wanted().get("workspace")
    return any(segments.is_due(log) for log in (folder.requests, folder.outcomes)) and Path(wanted or "/dev/null").is_dir()


class Folding:
    """Folds one endpoint, in one process at a time."""

    def __init__(self, folder: EndpointFolder) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    @property
    def running(self) -> bool:
        """Whether the process works now."""
        return self._process is not None and self._process.poll() is None

    def look(self) -> None:
        """Start the process where a full file waits; at once, and never two."""
        if self.running:
            return
        if self._process is not None:
            if self._process.returncode:
                _log.warning("the log was not brought into the lake (status %d); again in a minute", self._process.returncode)
                self._not_before = time.monotonic() + _AGAIN_S
            self._process = None
        if time.monotonic() >= self._not_before and is_due(self._folder):
            argv = [sys.executable, "-m", "jupyter_mlp.serving.folding", str(self._folder.path)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)


def main(path: Path) -> int:
    """Fold one endpoint once; return the exit status."""
    from jupyter_mlp.serving import experiment_tables
    from jupyter_mlp.store.workspace import Workspace

    os.nice(_NICE)
    folder = EndpointFolder(path)
    experiment_tables.fold(Workspace(Path(folder.wanted()["workspace"])), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
