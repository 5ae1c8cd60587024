"""A rank of a cluster before it trains: it becomes like one that torchrun started, whatever engine did.

    engine      places the process, tells it RANK, WORLD_SIZE, MLP_ATTEMPT and MLP_HOST, its node's address
    log         what it prints goes to the run's folder, as that of a local rank
    meeting     rank 0 says in meeting.json where the others find it
    fence       a rank of an attempt that has a follower ends itself: an engine that lost sight of it cannot

Each rank sees one GPU and is a node of its own (LOCAL_WORLD_SIZE=1), so any placement by the engine is as good.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
from pathlib import Path

from jupyter_mlp.store import jobs, processes
from jupyter_mlp.store.attempts import log_of
from jupyter_mlp.store.jobs import RunFolder

CLUSTER = "MLP_ON_CLUSTER"  # this rank was placed by an engine
HOST = "MLP_HOST"
_MEETING = "meeting.json"
_LOOK_S = 0.05
_FENCE_S = 1.0
_FENCED = 75  # exit status: not a mistake of the training


def joined(folder: Path) -> None:
    """Do all that comes before the worker's own work."""
    print_to(log_of(folder, int(os.environ["RANK"])))
    run = RunFolder(folder)
    os.environ |= {CLUSTER: "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": os.environ["RANK"]}
    threading.Thread(target=_fence, args=(run, int(os.environ["MLP_ATTEMPT"])), daemon=True).start()
    if int(os.environ["WORLD_SIZE"]) > 1:
        os.environ |= {"TORCHELASTIC_RUN_ID": folder.name, **_meeting(run)}


def print_to(log: Path) -> None:
    """Let everything that this process prints go to a file, from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _meeting(run: RunFolder) -> dict[str, str]:
    """Return where rank 0 listens, as torch.distributed wants to be told."""
    attempt = int(os.environ["MLP_ATTEMPT"])
    if os.environ["RANK"] == "0":
        address = os.environ.get(HOST) or socket.gethostname()
        run.write(_MEETING, {"attempt": attempt, "address": address, "port": processes.free_port(address)})
    while (found := run.read(_MEETING) or {}).get("attempt") != attempt:
        time.sleep(_LOOK_S)  # for ever, if need be: the supervisor ends this rank when rank 0 has ended
    told = {"MASTER_ADDR": str(found["address"]), "MASTER_PORT": str(found["port"])}
    return {**told, "GLOO_SOCKET_IFNAME": "lo"} if _is_loopback(found["address"]) else told


def _fence(run: RunFolder, attempt: int) -> None:
    while True:
        time.sleep(_FENCE_S)
        newest = run.read("ranks.json") or {}
        if int(newest.get("attempt", 0)) > attempt or run.read("exit.json") or (run.path / jobs.CANCEL).exists():
            os._exit(_FENCED)


def is_ours(address: str) -> bool:
    """Whether this node can be reached under an address."""
    try:
        return processes.free_port(address) > 0
    except OSError:
        return False


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(address)).is_loopback
    except OSError:
        return False
