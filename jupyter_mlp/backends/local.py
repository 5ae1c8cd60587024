"""Local launcher: the job runs on this machine under a detached supervisor that outlives kernel and Lab."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.processes import Process, spawn

_PROCESSES_A_CORE = 4  # more only slow each other down


class LocalLauncher:
    """Runs N processes on this machine, one a GPU where there are any."""

    def check(self, gpus: int) -> str:
        """Refuse more GPUs than there are, or more processes than the cores can bear."""
        found = gpu_count()
        cores = os.cpu_count() or 1
        if found and gpus > found:
            raise InvalidInputError(f"--gpus {gpus}: this machine has {found}.", f"Give --gpus {found} or fewer, or another --cluster.")
        if not found and gpus > cores * _PROCESSES_A_CORE:
            most = cores * _PROCESSES_A_CORE
            raise InvalidInputError(
                f"--gpus {gpus}: this machine has no GPU and {cores} cores, so at most {most} processes.",
                f"Give --gpus {cores}, or another --cluster.",
            )
        if found:
            return f"{gpus} of {found} GPUs of this machine"
        return f"no GPU here: {gpus} CPU {'process' if gpus == 1 else 'processes'} on {cores} cores"

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Start the supervisor of a run."""
        command = [sys.executable, "-m", "jupyter_mlp.backends.supervisor", str(folder), str(workspace)]
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": _import_path()}
        process = spawn(command, folder / "log.txt", environment, folder)
        return {"cluster": "local", "folder": str(folder), **process.to_dict()}

    def alive(self, handle: Mapping[str, Any]) -> bool:
        """Whether the supervisor runs, or, where that was killed, the training itself."""
        return any(process.alive for process in _processes(handle))

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """End the supervisor, which ends its ranks and records it; where that was killed, end the training."""
        for process in _processes(handle):
            process.stop(wait_s=15)


def _processes(handle: Mapping[str, Any]) -> list[Process]:
    worker = RunFolder(Path(handle["folder"])).read("worker.json")
    return [Process.from_dict(handle), *([Process.from_dict(worker)] if worker else [])]


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sum(1 for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()) if os.path.isdir("/dev") else 0
    if visible is not None:
        return min(found, len([one for one in visible.split(",") if one.strip() not in ("", "-1")]))
    return found


def _import_path() -> str:
    """Where this package is, for a supervisor that starts in another folder."""
    package = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
