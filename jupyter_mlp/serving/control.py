"""Endpoints on this machine: starting, awaiting and stopping the host of one, a process that outlives the kernel."""

from __future__ import annotations

import ipaddress
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError
from jupyter_mlp.serving import warmth
from jupyter_mlp.store import processes
from jupyter_mlp.store.deployments import LOOPBACK, EndpointFolder, answers
from jupyter_mlp.store.processes import Process

_READY_S = 90.0  # a model that runs its author's code imports torch first


class ThisMachine:
    """The hosts of endpoints, each with a port of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def settle(self, folder: Path, port: int | None, replicas: int | None, listen: str | None = None) -> Mapping[str, Any]:
        """Take a port, an address and a number of processes: as asked, else as before, else one on a free port of loopback."""
        endpoint = EndpointFolder(folder)
        fresh = not self.runs(folder)
        address = _address_for(endpoint, listen, fresh)
        number = _processes_for(endpoint, replicas)
        return {"port": _port_for(endpoint, port, address, fresh), "listen": address, "replicas": number}

    def runs(self, folder: Path) -> bool:
        """Whether the host lives and was not told to stop."""
        return EndpointFolder(folder).running

    def bring(self, folder: Path, fresh: bool) -> str | None:
        """Start a host where `fresh`; wait until its serving process has followed."""
        endpoint = EndpointFolder(folder)
        return _followed(endpoint, start(endpoint) if fresh else None)

    def state(self, folder: Path) -> str:
        """Return what its process and its own health say, which is asked without waking a model that is not in memory."""
        endpoint = EndpointFolder(folder)
        if not endpoint.running:
            return "down"
        if not answers(endpoint.address):
            return "starting"
        return warmth.COLD if warmth.is_cold(endpoint) else "ready"

    def stop(self, folder: Path) -> None:
        """End the host and all its processes."""
        process = EndpointFolder(folder).process()
        if process is not None:
            process.stop(wait_s=10.0)

    def log(self, folder: Path) -> str:
        """The host's own file."""
        return f"Its log: {EndpointFolder(folder).log}"


def _address_for(folder: EndpointFolder, asked: str | None, fresh: bool) -> str:
    if asked is None or asked == folder.listen:
        return folder.listen
    if not fresh:
        raise InvalidInputError(
            f"{folder.name} already listens on {folder.listen}.",
            f"Leave listen out, or stop it first: mlp.endpoint('{folder.name}').stop()",
        )
    try:
        ipaddress.ip_address(asked)
        processes.free_port(asked)
    except (ValueError, OSError):
        hint = f"Write {LOOPBACK} for this machine only, 0.0.0.0 for all of its addresses, or one of them."
        raise InvalidInputError(f"{asked!r} is no address of this machine.", hint) from None
    return asked


def _processes_for(folder: EndpointFolder, asked: int | None) -> int:
    before = folder.processes if folder.where == LOCAL else 1
    return before if asked is None or asked == before else possible(asked)


def possible(replicas: int) -> int:
    """Return a number of processes that this machine can serve an endpoint with.

    Raises:
        InvalidInputError: it cannot.
    """
    most = processes.cores() if sys.platform == "linux" else 1  # elsewhere no system shares a port out evenly
    if 1 <= replicas <= most:
        return replicas
    raise InvalidInputError(
        f"replicas is {replicas}, and this machine can serve with {most} at most: one process a core.",
        f"Write replicas={most}, or name a cluster.",
    )


def _port_for(folder: EndpointFolder, asked: int | None, address: str, fresh: bool) -> int:
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
        if not _is_free(address, asked):
            raise ConflictError(
                f"Port {asked} is in use or not allowed.", f"Write port={processes.free_port(address)}, which is free, or leave it out."
            )
        return asked
    return folder.port if folder.port and _is_free(address, folder.port) else processes.free_port(address)


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
            trial.listen(1)
        except OSError:
            return False
    return True


def start(folder: EndpointFolder) -> Process:
    """Start the host of an endpoint whose wanted state is written."""
    process = folder.process()
    if process is not None and process.alive:
        process.stop()  # told to stop before, but not gone yet
    wanted = folder.wanted()
    argv = [sys.executable, "-m", "jupyter_mlp.serving.host", str(folder.path), *wanted["models"]]
    return processes.spawn(argv, folder.log, {"PYTHONPATH": processes.import_path()}, Path(wanted["workspace"]))


def _followed(folder: EndpointFolder, host: Process | None) -> str | None:
    """Wait until the host has followed; return what it says is wrong, or None."""
    generation, number = int(folder.wanted()["generation"]), folder.processes
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        actual = folder.actual()
        if int(actual.get("generation", -1)) >= generation:
            if actual.get("error"):
                return str(actual["error"])
            if int(actual.get("processes", 1)) == number and answers(folder.address):
                return None
        elif host is not None and not host.alive and not folder.running:  # somebody else may have been faster with another
            raise JobError(f"The host of {folder.name} ended before it served: {_last_line(folder.log)}", f"Its log: {folder.log}")
        time.sleep(0.02)
    raise JobError(f"The endpoint {folder.name} is not ready after {_READY_S:.0f} s.", f"Its log: {folder.log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "it printed nothing"
