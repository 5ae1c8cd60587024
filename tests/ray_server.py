"""A real Ray cluster on this machine, on loopback: a head without GPUs, and several nodes with declared ones.

Where the machine has GPUs, one node with those.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OPTIONS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or it calls 127.0.0.1 by an address of the machine, where nobody listens
    "RAY_prestart_worker_first_driver": "0",  # 32 idle processes for each job are more than two cores can bear
    "RAY_worker_register_timeout_seconds": "300",  # they start one after the other here, and Ray ends those that are late
}


@contextmanager
def running(nodes: int = 4, gpus: int = 8, head_cpus: int = 1) -> Iterator[Any]:
    """A cluster whose dashboard answers; its `web` is the dashboard's address."""
    os.environ |= _OPTIONS
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # of its own: Ray takes any head of the machine for the one of the folder they share
    cluster, web = _patiently(lambda: _head(head_cpus, folder))
    (folder / "ray_current_cluster").write_text(cluster.address)  # as `ray start --temp-dir` does
    try:
        for number in range(nodes):
            node = {"num_cpus": gpus, "num_gpus": gpus, "node_ip_address": "127.0.0.1", "node_name": f"node{number + 1}"}
            _patiently(lambda node=node: cluster.add_node(**node))
        cluster.web = web
        _until_it_answers(f"{cluster.web}/api/version")
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _head(cpus: int, folder: Path) -> tuple[Any, str]:
    from ray.cluster_utils import Cluster

    port = free_port()
    head = {
        "num_cpus": cpus,
        "num_gpus": 0,
        "temp_dir": str(folder),
        "node_ip_address": "127.0.0.1",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        "dashboard_agent_listen_port": free_port(),
    }
    return Cluster(initialize_head=True, head_node_args=head), f"http://127.0.0.1:{port}"


def _patiently(start: Callable[[], Any]) -> Any:
    for attempt in range(3):
        try:
            return start()
        except Exception as error:
            if attempt == 2 or "timed out" not in str(error):
                raise  # Ray gives a node 30 s to come up, and a busy machine may need more
    return None


class Gate:
    """A way to the dashboard that can be closed and opened: what a cut network is to whoever looks."""

    def __init__(self, web: str) -> None:
        self._to = ("127.0.0.1", int(web.rsplit(":", 1)[1]))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._listening: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Let everything through."""
        self._listening = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Refuse every connection from here on."""
        assert self._listening is not None
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


_HOLDS = """
import sys, time, ray
from ray.util.placement_group import placement_group
ray.init(log_to_driver=False)
ray.get(placement_group([{"GPU": 1}] * int(sys.argv[1])).ready())
print("held", flush=True)
time.sleep(600)
"""


def hold(web: str, gpus: int) -> Callable[[], None]:
    """Let a job of somebody else have GPUs; return what ends it."""

    def asked(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{web}{path}", data, {"Content-Type": "application/json"}, method=method)
        return json.loads(urllib.request.urlopen(request, timeout=30).read())

    entry = shlex.join([sys.executable, "-c", _HOLDS, str(gpus)])
    job = asked("POST", "/api/jobs/", {"entrypoint": entry})["submission_id"]
    deadline = time.monotonic() + 120
    while "held" not in asked("GET", f"/api/jobs/{job}/logs")["logs"]:
        assert time.monotonic() < deadline, asked("GET", f"/api/jobs/{job}")
        time.sleep(0.3)
    return lambda: asked("POST", f"/api/jobs/{job}/stop")


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{url} never answered"
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
