"""Ray launcher: the job goes to the dashboard of a cluster by Ray's Jobs API, over HTTP; a notebook needs no Ray.

The entry point that Ray runs is our supervisor (ray_gang.py).
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_mlp.backends import gang, ray_session, starting
from jupyter_mlp.backends.looking import Looks
from jupyter_mlp.backends.ray_dashboard import Dashboard
from jupyter_mlp.core import shapes
from jupyter_mlp.core.clusters import GONE, Cluster, Sight
from jupyter_mlp.core.entities import CANCELLED, QUEUED, RUNNING
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.core.shapes import Node, Shape
from jupyter_mlp.store import jobs
from jupyter_mlp.store.attempts import SUPERVISOR
from jupyter_mlp.store.jobs import RunFolder

_CANCEL_S = 15.0
_SUBMIT_S = 90.0  # a head takes the first job once the agent on its node is up, which imports for long
_UNSEEN = "UNSEEN"  # our word beside Ray's
_looks = Looks()


class RayLauncher:
    """Sends jobs to the Ray cluster whose dashboard is at an address."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._dashboard = Dashboard(cluster)

    def nodes(self) -> list[Node]:
        """Return the cluster's nodes, those that were lost left out: Ray remembers every one it ever had."""
        found = self._dashboard.asked("GET", "/api/v0/nodes?detail=1&limit=1000")["data"]["result"]["result"]
        used = self._used()
        return [_node(told, used.get(str(told["node_id"]), {})) for told in found if told["state"] == "ALIVE"]

    def shape(self, gpus: int) -> Shape:
        """Return nodes x GPUs per node; Ray may then place each GPU's process wherever there is room."""
        self._dashboard.refuse_open()
        return shapes.shape(gpus, self.nodes(), f"the Ray cluster {self._cluster.name}")

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Send the job under a name of its own: Ray refuses a second one of that name, so nothing is ever sent twice."""
        self._dashboard.refuse_open()
        run = RunFolder(folder)
        known = run.read("handle.json") or {}
        status, why = self._state(known["job"]) if known else ("", "")
        if status == "STOPPED" or (folder / jobs.CANCEL).exists():
            run.end(CANCELLED, *(["Somebody stopped it on the cluster."] if status == "STOPPED" else []))
            return known
        if status == _UNSEEN:
            raise JobError(why, "Keep the workspace (MLP_WORKSPACE) where every node reaches it at the same path.")
        if not starting.is_due(run, gang.LOG):
            return known
        handle = {"job": f"mlp-{folder.name}-{_starts(run) + 1}", "folder": str(folder)}
        if not self._state(handle["job"])[0]:  # else it was sent, and whoever sent it was killed before he could write that down
            self._send(handle["job"], folder, workspace, run.read("spec.json") or {})
        starting.say(run, why)
        return handle

    def look(self, handle: Mapping[str, Any]) -> Sight:
        """Say what the dashboard says."""
        return _looks.at((self._dashboard.address, handle["job"]), lambda: self._seen(handle["job"])) if handle.get("job") else Sight(GONE)

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """Let the job end by itself, and end it when it does not."""
        run = RunFolder(Path(handle["folder"]))
        deadline = time.monotonic() + _CANCEL_S
        while run.read("exit.json") is None and time.monotonic() < deadline and self._seen(handle["job"]).state != GONE:
            time.sleep(0.2)
        if run.read("exit.json") is None:
            self._dashboard.asked("POST", f"/api/jobs/{quote(handle['job'])}/stop", absent={})
            run.end(CANCELLED)

    def _send(self, job: str, folder: Path, workspace: Path, spec: Mapping[str, Any]) -> None:
        python = self._cluster.python or spec.get("python") or sys.executable
        entry = [python, "-m", "jupyter_mlp.backends.ray_gang", str(folder), str(workspace)]
        session = str(self._dashboard.asked("GET", "/api/version").get("session_name", ""))
        told = {"env_vars": {**starting.environment(self._cluster), ray_session.EXPECTED: session}}
        body = {"entrypoint": shlex.join(entry), "submission_id": job, "runtime_env": told, "metadata": {"run": folder.name}}
        self._dashboard.asked("POST", "/api/jobs/", body, timeout_s=_SUBMIT_S)

    def _seen(self, job: str) -> Sight:
        status, why = self._state(job)
        return Sight({"PENDING": QUEUED, "RUNNING": RUNNING}.get(status, GONE), why)

    def _state(self, job: str) -> tuple[str, str]:
        """Return Ray's word for a job's state, empty when it does not know the job, and a sentence about it."""
        told = self._dashboard.asked("GET", f"/api/jobs/{quote(job)}", absent={})
        status = str(told.get("status", ""))
        if status in ("PENDING", "RUNNING"):
            return status, "Ray starts the job." if status == "PENDING" else ""
        message = " ".join(str(told.get("message") or "").split())
        if not status:
            return status, f"Ray does not know the job {job}: its head was started anew."
        if told.get("driver_exit_code") == gang.UNSEEN:
            return _UNSEEN, "The node that Ray started the job on does not see the folder of the run."
        return status, f"Ray's job ended: {message[:300] or status.lower()}"

    def _used(self) -> dict[str, Mapping[str, Any]]:
        """Return what is in use on each node, by its id."""
        told = self._dashboard.asked("GET", "/api/cluster_status?format=0")["data"]["clusterStatus"]
        return dict((told.get("loadMetricsReport") or {}).get("usageByNode") or {})


def _starts(run: RunFolder) -> int:
    return sum(event.get(SUPERVISOR) == "started" for event in run.events()[0])


def _node(told: Mapping[str, Any], used: Mapping[str, Any]) -> Node:
    total = told.get("resources_total") or {}
    gpus = int(total.get("GPU", 0))
    taken = used.get("GPU", [0, 0])[0]
    return Node(str(told.get("node_name") or told["node_id"]), gpus, gpus - int(taken), int(total.get("CPU", 0)))
