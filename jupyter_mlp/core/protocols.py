"""What an outside system must be able to do: one small protocol each, fulfilled by one file in `backends/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Launcher(Protocol):
    """Starts training jobs on one kind of cluster. All launchers run the same worker from the same run folder."""

    def check(self, gpus: int) -> str:
        """Refuse a shape that can never fit, with what would; return a sentence about what it will run on."""
        ...

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Start the job described in the run folder, or what watches it, unless it runs; return what finds it again, as JSON types.

        Asked again for a job that was killed, it goes on from the job's last checkpoint; JobError says that it cannot.
        """
        ...

    def alive(self, handle: Mapping[str, Any]) -> bool:
        """Whether the job that `submit` started still runs."""
        ...

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """End the job, which knows of the wish from its run folder; it records that it was cancelled."""
        ...
