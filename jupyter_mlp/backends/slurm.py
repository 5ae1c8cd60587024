"""Slurm launcher: the job is an sbatch script from a template; the queue, the nodes and the limits are Slurm's own.

Only the commands that every user of a cluster has are needed (sbatch, squeue, scontrol, scancel): no accounting, no API.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.backends import gang, starting
from jupyter_mlp.backends.looking import Looks
from jupyter_mlp.core import shapes
from jupyter_mlp.core.clusters import GONE, Cluster, Sight
from jupyter_mlp.core.entities import CANCELLED, QUEUED, RUNNING
from jupyter_mlp.core.errors import JobError, UnreachableError
from jupyter_mlp.core.shapes import Node, Shape
from jupyter_mlp.store import jobs, templates
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.jobs import RunFolder

SCRIPT = "job.sbatch"
_ANSWER_S = 20.0
_CANCEL_S = 15.0
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "SLURM_CONF", "LD_LIBRARY_PATH")
_RUNS = ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
# COMPLETING is neither: the supervisor has ended, and what is left of the ranks is being ended, for minutes if need be.
_DOWN = ("DOWN", "DRAIN", "FAIL", "MAINT", "NOT_RESPONDING", "NO_RESPOND", "UNKNOWN", "POWERED_DOWN", "INVAL")
_looks = Looks()


class SlurmLauncher:
    """Sends jobs to the Slurm that this machine's commands speak to."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def nodes(self) -> list[Node]:
        """Return the nodes of the partition."""
        lines = self._asked("scontrol", "show", "node", "--details", "--oneliner").splitlines()
        partition = self._cluster.partition or self._default_partition()
        found = [_fields(line) for line in lines if line.startswith("NodeName=")]
        return [_node(told) for told in found if partition in told.get("Partitions", "").split(",")]

    def shape(self, gpus: int) -> Shape:
        """Return nodes x GPUs per node."""
        return shapes.shape(gpus, self.nodes(), f"the Slurm cluster {self._cluster.name}")

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Send the job, unless Slurm has it: its name is that of the run, so a kill between sending and writing costs nothing."""
        run = RunFolder(folder)
        known = run.read("handle.json") or {}
        found = self._asked("squeue", "--me", f"--name={_name(folder)}", "--states=PD,R,CF,S", "--noheader", "--format=%i").split()
        if found:
            return {"job": found[0], "folder": str(folder)}
        ended, why = self._state(known["job"]) if known else ("", "")
        if ended == "CANCELLED" or (folder / jobs.CANCEL).exists():
            run.end(CANCELLED, *([why] if ended == "CANCELLED" else []))
            return known
        if not starting.is_due(run, gang.LOG):
            return known
        publish_bytes(folder / SCRIPT, self._script(folder, workspace, run.read("spec.json") or {}).encode())
        starting.say(run, why)
        return {"job": self._asked("sbatch", "--parsable", str(folder / SCRIPT)).strip().split(";")[0], "folder": str(folder)}

    def look(self, handle: Mapping[str, Any]) -> Sight:
        """Say what squeue says."""
        return _looks.at(handle.get("job"), lambda: self._seen(handle)) if handle.get("job") else Sight(GONE)

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """Take a waiting job out of the queue; let a running one end by itself, and end it when it does not."""
        run = RunFolder(Path(handle["folder"]))
        deadline = time.monotonic() + _CANCEL_S
        while self._seen(handle).state == RUNNING and time.monotonic() < deadline:
            if run.read("exit.json") is not None:
                return
            time.sleep(0.2)
        self._asked("scancel", str(handle["job"]))
        run.end(CANCELLED)

    def _seen(self, handle: Mapping[str, Any]) -> Sight:
        state, why = self._state(handle["job"])
        if state in _WAITS:
            return Sight(QUEUED, why)
        return Sight(RUNNING if state in _RUNS else GONE, why)

    def _state(self, job: str) -> tuple[str, str]:
        """Return Slurm's word for a job's state, and a sentence about it."""
        said = self._asked("squeue", f"--jobs={job}", "--states=all", "--noheader", "--format=%T|%r", unknown="")
        state, _, reason = said.strip().partition("|")
        if state in _WAITS:
            return state, f"Slurm's job {job} waits: {reason}."
        if state in _RUNS:
            return state, "" if state == "RUNNING" else f"Slurm's job {job} is {state.lower()}."
        return state, f"Slurm's job {job} ended: {_ENDED.get(state, state.lower() or 'Slurm does not know it any more')}."

    def _script(self, folder: Path, workspace: Path, spec: Mapping[str, Any]) -> str:
        cluster = self._cluster
        nodes, tasks = int(spec["nodes"]), int(spec["gpus"])
        python = cluster.python or spec.get("python") or sys.executable
        command = [python, "-m", "jupyter_mlp.backends.slurm_gang", str(folder), str(workspace)]
        told = starting.environment(cluster)
        options = [*([f"--partition={cluster.partition}"] if cluster.partition else []), *cluster.options, *_nice(int(spec["priority"]))]
        words = {
            "name": _name(folder),
            "nodes": str(nodes),
            "per_node": str(tasks // nodes),
            "tasks": str(tasks),
            "cpus": str(cluster.cpus_per_gpu),
            "gres": f"#SBATCH --gres=gpu:{tasks // nodes}" if spec.get("device") == "gpu" else "# no GPU here",
            "log": str(folder / "slurm.log"),
            "options": "\n".join(f"#SBATCH {option}" for option in options),
            "setup": "\n".join(f"export {name}={shlex.quote(value)}" for name, value in told.items()),
            "command": shlex.join(command),
        }
        return templates.rendered("slurm/train.sbatch", words, cluster.template)

    def _default_partition(self) -> str:
        lines = self._asked("scontrol", "show", "partition", "--oneliner").splitlines()
        found = [_fields(line) for line in lines if line.startswith("PartitionName=")]
        return next((told["PartitionName"] for told in found if told.get("Default") == "YES"), found[0]["PartitionName"] if found else "")

    def _asked(self, *command: str, unknown: str | None = None) -> str:
        """Return what a command of Slurm says.

        Args:
            unknown: the answer about a job that Slurm does not know.
        """
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, env=environment, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise JobError(
                f"The cluster {self._cluster.name} is a Slurm, and {command[0]} is not on this machine.",
                "Use a machine that Slurm's commands are installed on (a login node), or another --cluster.",
            ) from None
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"The Slurm cluster {self._cluster.name} does not answer ({command[0]}, {_ANSWER_S:.0f} s).") from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join((done.stderr or done.stdout).strip().splitlines()[-1:])
        if unknown is not None and "Invalid job id" in done.stderr:
            return unknown
        if any(word in done.stderr for word in _SILENT):
            raise UnreachableError(f"The Slurm cluster {self._cluster.name} does not answer: {said}", "sinfo shows whether it is up.")
        raise JobError(f"The Slurm cluster {self._cluster.name} refused: {said}", "Look at [cluster.NAME] options, partition and template.")


_SILENT = ("Unable to contact", "Connection refused", "Connection timed out", "Communication connection failure", "No route to host",
           "Socket timed out", "Munge", "munge", "Could not establish")  # fmt: skip
_ENDED = {
    "NODE_FAIL": "its node was lost",
    "TIMEOUT": "its time was up",
    "OUT_OF_MEMORY": "it took more memory than it was given",
    "PREEMPTED": "another job needed its place",
    "CANCELLED": "somebody cancelled it on the cluster",
    "COMPLETED": "the batch script ended",
    "COMPLETING": "the batch script ended",
    "FAILED": "the batch script failed",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its deadline had passed",
}


def _name(folder: Path) -> str:
    return f"mlp-{folder.name}"


def _nice(priority: int) -> list[str]:
    """Whoever may, is behind others of his own by it; to be before others is not for a user to say."""
    return [f"--nice={-priority}"] if priority < 0 else []


def _fields(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _node(told: Mapping[str, str]) -> Node:
    state = told.get("State", "")
    down = next((word for word in _DOWN if word in state), "")
    gpus = _gpus(told.get("Gres", ""))
    return Node(told["NodeName"], gpus, gpus - _gpus(told.get("GresUsed", "")), int(told.get("CPUTot", "1")), state.lower() if down else "")


def _gpus(gres: str) -> int:
    """Return how many GPUs gpu:a100:8(S:0-1),gpu:4 names."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", gres))
