"""Local launcher: the job runs on this machine under a detached supervisor that outlives kernel and Lab."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.backends import starting
from jupyter_mlp.core.clusters import GONE, LOCAL, Cluster, Sight
from jupyter_mlp.core.entities import RUNNING
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.shapes import Node, Shape
from jupyter_mlp.store import jobs, queue
from jupyter_mlp.store.gpus import count as gpu_count
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import import_path, spawn

ALL_GPUS = "MLP_ALL_GPUS"  # CUDA_VISIBLE_DEVICES as it was before a rank was given its own
RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("MLP_ATTEMPT", "MLP_RESUME", ALL_GPUS),
)
_LOG = "supervisor.log"
_CANCEL_S = 30.0
_PROCESSES_A_CORE = 4  # more only slow each other down


class LocalLauncher:
    """Runs N processes on this machine, one a GPU where there are any."""

    def __init__(self, cluster: Cluster = LOCAL) -> None:
        self._cluster = cluster

    def nodes(self) -> list[Node]:
        """Return this machine; which of its GPUs are free is the queue's to say."""
        found = gpu_count()
        return [Node(socket.gethostname(), found, found, os.cpu_count() or 1)]

    def shape(self, gpus: int) -> Shape:
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
            return Shape(1, gpus, f"{gpus} of {found} GPUs of this machine")
        return Shape(1, gpus, f"no GPU here: {gpus} CPU {'process' if gpus == 1 else 'processes'} on {cores} cores", "cpu")

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Start the supervisor of a run, unless it has one: asked twice, or by ten processes at once, it starts one.

        Raises:
            JobError: it was started several times and never came up.
        """
        handle = {"folder": str(folder), "host": socket.gethostname()}
        held = _lease(folder).take()
        if held is None:
            return handle
        try:
            run = RunFolder(folder)
            if not starting.is_due(run, _LOG):
                return handle
            starting.say(run)
            queue.enter(run)
            python = (run.read("spec.json") or {}).get("python") or sys.executable  # whoever revives it may be in another environment
            command = [python, "-m", "jupyter_mlp.backends.supervisor", str(folder), str(workspace), str(held)]
            spawn(command, folder / _LOG, {**_unranked(), "PYTHONUNBUFFERED": "1", "PYTHONPATH": import_path()}, folder, (held,))
        finally:
            os.close(held)
        return handle

    def look(self, handle: Mapping[str, Any]) -> Sight:
        """Say whether the job has a supervisor."""
        return Sight(RUNNING if _lease(Path(handle["folder"])).held else GONE)

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """Wait until the supervisor has seen the wish and ended the ranks; one that was killed is started for it."""
        run = RunFolder(Path(handle["folder"]))
        deadline = time.monotonic() + _CANCEL_S
        while jobs.state_of(run)[0] == RUNNING and time.monotonic() < deadline:
            time.sleep(0.05)


def _lease(folder: Path) -> Lease:
    return Lease(folder / "supervisor.lock")


def _unranked() -> dict[str, str | None]:
    """What a supervisor must not inherit from the rank that starts it again: who that is, and its part of the GPUs."""
    gpus = os.environ.get(ALL_GPUS, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return {**dict.fromkeys(RANK_VARIABLES), "CUDA_VISIBLE_DEVICES": gpus}
