"""Starting, awaiting, undoing and stopping hosts from the deploying side."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError
from jupyter_mlp.store import deployments, processes
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import Process
from jupyter_mlp.store.workspace import Workspace

_READY_S = 90.0  # a model that runs its author's code imports torch first


def port_for(folder: EndpointFolder, asked: int | None, fresh: bool) -> int:
    """Return the port to listen on: as asked, else as before, else a free one."""
    if not fresh:
        if asked not in (None, folder.port):
            raise InvalidInputError(
                f"{folder.name} already listens on {folder.port}.",
                f"Leave port out, or stop it first: mlp.endpoint('{folder.name}').stop()",
            )
        return int(folder.port or 0)
    if asked is not None:
        if not 1 <= asked <= 65535:
            raise InvalidInputError(f"port is {asked}, not a number from 1 to 65535.", "Leave it out to get a free one.")
        if not _is_free(asked):
            raise ConflictError(f"Port {asked} is in use or not allowed.", f"Write port={_freeport_for()}, which is free, or leave it out.")
        return asked
    return folder.port if folder.port and _is_free(folder.port) else _freeport_for()


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
            trial.listen(1)
        except OSError:
            return False
    return True


def _freeport_for() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def start(workspace: Workspace, folder: EndpointFolder) -> Process:
    """Start the host of an endpoint whose wanted state is written."""
    process = folder.process()
    if process is not None and process.alive:
        process.stop()  # told to stop before, but not gone yet
    roots = [str(path) for path in deployments.model_roots(workspace)]
    package = str(Path(__file__).resolve().parents[2])
    argv = [sys.executable, "-m", "jupyter_mlp.serving.host", str(folder.path), *roots]
    return processes.spawn(argv, folder.log, {"PYTHONPATH": _first(package)}, workspace.root)


def _first(package: str) -> str:
    """The host runs the code of this kernel, wherever it was imported from."""
    return os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH", "")])])


def wait(folder: EndpointFolder, generation: int, host: Process | None) -> str | None:
    """Wait until the host has followed; return what it says is wrong, or None."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        actual = folder.actual()
        if int(actual.get("generation", -1)) >= generation:
            if actual.get("error"):
                return str(actual["error"])
            if folder.port is not None and answers(folder.port):
                return None
        elif host is not None and not host.alive:
            raise JobError(f"The host of {folder.name} ended before it served: {_last_line(folder.log)}", f"Its log: {folder.log}")
        time.sleep(0.02)
    raise JobError(f"The endpoint {folder.name} is not ready after {_READY_S:.0f} s.", f"Its log: {folder.log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "it printed nothing"


def answers(port: int) -> bool:
    """Whether the endpoint on this port says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def undo(folder: EndpointFolder, old: Mapping[str, Any], state: Mapping[str, Any], fresh: bool) -> None:
    """A deploy that failed leaves the endpoint as it was: still serving, or not running."""
    if fresh:
        folder.want({**state, "generation": state["generation"] + 1, "stopped": True})
        process = folder.process()
        if process is not None:
            process.stop()
    else:
        folder.want({**old, "generation": state["generation"] + 1})


def stop(folder: EndpointFolder) -> None:
    """End the host and all its processes; the log of requests and the token stay."""
    with folder.locked("deploy"):
        wanted = folder.wanted()
        folder.want({**wanted, "generation": int(wanted.get("generation", 0)) + 1, "stopped": True})
        process = folder.process()
        if process is not None:
            process.stop(wait_s=10.0)


def stop_all(workspace: Workspace) -> None:
    """End every endpoint of a workspace, as when a scratch workspace is dropped."""
    for name in deployments.names(workspace):
        stop(deployments.folder(workspace, name))
