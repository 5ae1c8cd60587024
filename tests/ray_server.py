"""A real Ray cluster on this machine: a head without GPUs and several nodes with declared ones, on loopback."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(nodes: int = 4, gpus: int = 8) -> Iterator[Any]:
    """A cluster whose dashboard answers; its `web` is the dashboard's address."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    from ray.cluster_utils import Cluster

    port = _free_port()
    head = {
        "num_cpus": 1,
        "num_gpus": 0,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        "dashboard_agent_listen_port": _free_port(),
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for number in range(nodes):
            cluster.add_node(num_cpus=gpus, num_gpus=gpus, node_ip_address="127.0.0.1", node_name=f"node{number + 1}")
        cluster.web = f"http://127.0.0.1:{port}"
        _until_it_answers(f"{cluster.web}/api/version")
        yield cluster
    finally:
        cluster.shutdown()


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{url} never answered"
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
