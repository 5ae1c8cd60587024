"""The supervisor of one local job: starts the ranks, waits, and writes how it ended. It needs no kernel and no Lab.

python -m jupyter_mlp.backends.supervisor RUN_FOLDER WORKSPACE
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from jupyter_mlp.core.entities import CANCELLED, FAILED
from jupyter_mlp.store import jobs
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace

_GRACE_S = 10.0


class _Cancelled(BaseException):
    """Somebody asked the job to stop."""


def main(folder: Path, root: Path) -> int:
    """See one run through; return the exit status."""
    run, workspace = RunFolder(folder), Workspace(root)
    signal.signal(signal.SIGTERM, _cancel)
    child = subprocess.Popen(_ranks(folder, int((run.read("spec.json") or {})["gpus"])), env=_environment(run), cwd=folder)
    try:
        status = child.wait()
    except _Cancelled:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(child)
        run.end(CANCELLED)
    else:
        if status == 0 and (folder / "result").is_dir():
            jobs.complete(workspace, run)
        else:
            run.end(FAILED, *jobs.reason(run, _ended(status)))
    jobs.fold(workspace, folder.name)
    return 0


def _ranks(folder: Path, count: int) -> list[str]:
    module = ["-m", "jupyter_mlp.backends.worker", str(folder)]
    if count == 1:
        return [sys.executable, *module]  # torchrun would import torch once more, only to start one process
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(count)]
    return [sys.executable, *torchrun, *module]


def _environment(run: RunFolder) -> dict[str, str]:
    count = int((run.read("spec.json") or {})["gpus"])
    threads = str(max(1, (os.cpu_count() or 1) // count))
    return {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": threads, **os.environ}


def _cancel(_number: int, _frame: FrameType | None) -> None:
    raise _Cancelled


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _ended(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        more = " (the machine may have run out of memory)" if name == "SIGKILL" else ""
        return f"A training process was ended by {name}{more}."
    return f"A training process ended with status {status}."


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
