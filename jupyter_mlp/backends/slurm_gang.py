"""Inside a Slurm job: the supervisor on its first node, and one srun for the ranks of each attempt.

python -m jupyter_mlp.backends.slurm_gang RUN_FOLDER WORKSPACE      the batch script ends in this
python -m jupyter_mlp.backends.slurm_gang rank RUN_FOLDER           srun starts this, once for each rank
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from jupyter_mlp.backends import gang, worker
from jupyter_mlp.backends.attempting import Granted
from jupyter_mlp.backends.joining import HOST, is_ours, joined
from jupyter_mlp.store.jobs import RunFolder

_SRUN = "srun.log"
_SAID = re.compile(r"^srun: error: \S+: tasks? (\d+)[\d,-]*: (.+)$", re.MULTILINE)
_GRACE_S = 10.0
_NO_STEP = "Unable to create step"
_STEP_S, _TRIES = 10, 30


class SlurmGang(gang.Words):
    """The ranks of an attempt as one step of the job."""

    def __init__(self, run: RunFolder, world: int) -> None:
        super().__init__(run, world)
        self._step: subprocess.Popen[bytes] | None = None
        self._told: dict[str, str] = {}
        self._tries = 0

    def start(self, attempt: int, environment: Mapping[str, str]) -> bool:
        """Start an attempt: srun starts all ranks together, and ends the others when one ends badly."""
        self.begin(attempt)
        self._told = {**environment, "MLP_ATTEMPT": str(attempt), "WORLD_SIZE": str(self._world)}
        self._tries = 0
        self._launch()
        return True

    def _launch(self) -> None:
        self._tries += 1
        (self._run.path / _SRUN).unlink(missing_ok=True)
        # --overlap: slurmctld may learn minutes later that the step before has ended, and would let this one wait for it.
        # --immediate: one that was refused, because a node had not answered yet, is told so minutes after it has.
        step = ["srun", f"--ntasks={self._world}", "--overlap", f"--immediate={_STEP_S}"]
        command = [*step, "--kill-on-bad-exit=1", "--cpu-bind=none", "--unbuffered"]
        rank = [sys.executable, "-m", "jupyter_mlp.backends.slurm_gang", "rank", str(self._run.path)]
        with (self._run.path / _SRUN).open("ab") as said:
            self._step = subprocess.Popen(
                [*command, *rank],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, **self._told},
                start_new_session=True,
            )

    def watch(self) -> bool:
        """Return whether the step still runs."""
        if self._step is not None and self._step.poll() is None:
            return True
        if self._tries < _TRIES and _NO_STEP in self._said():
            self._launch()
            return True
        self._read_ends()
        return False

    def stop(self) -> None:
        """End the step; return when it has ended."""
        asked_at = time.monotonic()
        while self._step is not None and self._step.poll() is None:
            late = time.monotonic() - asked_at > _GRACE_S
            os.killpg(self._step.pid, signal.SIGKILL if late else signal.SIGTERM)
            time.sleep(0.5)
        self._read_ends()

    def _said(self) -> str:
        said = self._run.path / _SRUN
        return said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""

    def _read_ends(self) -> None:
        found = _SAID.findall(self._said())
        for rank, how in found:
            self._ends.setdefault(int(rank), _told(how))
        self._first = [int(rank) for rank, _ in found][:1]


def _told(how: str) -> str:
    """How a task ended, in a sentence, from srun's words."""
    if how.startswith("Exited with exit code"):
        return f"ended with status {how.split()[-1]} without a word"
    if "Memory" in how:
        return "was killed by Slurm because it took more memory than the job was given"
    if how.startswith("Killed"):
        return "was killed (SIGKILL, by somebody or for want of memory)"
    return f"ended: {how.strip()}"


def _rank(folder: Path) -> int:
    """Be one rank: what Slurm calls its number, and of the node's GPUs the one that is its own."""
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    if names := [name for name in map(os.environ.get, ("SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR")) if name and is_ours(name)]:
        os.environ[HOST] = names[0]  # a node's name need not be that of a host, and the first rank is where srun is
    gpus = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    place = int(os.environ["SLURM_LOCALID"])
    os.environ.pop("SLURM_NTASKS", None)  # or Lightning takes the requeueing of the job into its own hands
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    joined(folder)
    return worker.main(folder)


def main(*words: str) -> int:
    """Be the supervisor or a rank."""
    if words[0] == "rank":
        return _rank(Path(words[1]))
    return gang.see_through(Path(words[0]), Path(words[1]), lambda run, spec: (SlurmGang(run, int(spec["gpus"])), Granted()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
