"""Starting a job's supervisor, here or on a cluster: as often as is sensible, and found out when it never comes up."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from jupyter_mlp.core.clusters import Cluster
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.store.attempts import SUPERVISOR
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import import_path

_STARTS = 5  # in vain, before the run is called failed
_BETWEEN_S = 0.25  # twice as long after each start in vain: what keeps it from coming up may pass


def is_due(run: RunFolder, log: str) -> bool:
    """Whether to start a supervisor now: one that does not come up is given longer and longer to do so.

    Args:
        log: the file of the run's folder that has the supervisor's last words.

    Raises:
        JobError: it was started several times and never came up.
    """
    starts = [event for event in run.events()[0] if event.get(SUPERVISOR) in ("started", "up")]
    in_vain = len(list(itertools.takewhile(lambda event: event[SUPERVISOR] == "started", reversed(starts[-_STARTS:]))))
    if in_vain and 0 <= time.time() - starts[-1]["at"] < _BETWEEN_S * 2**in_vain:
        return False
    if in_vain == _STARTS and not Lease(run.path / "ranks.lock").held:  # a training that goes on has not failed
        raise JobError(
            f"The job's supervisor was started {_STARTS} times and never came up.",
            f"Its last words: {_last_words(run.path / log) or starts[-1].get('why') or 'none'}",
        )
    return True


def say(run: RunFolder, why: str = "") -> None:
    """Write down that a supervisor is being started, and why the one before is gone where that is known."""
    run.say({SUPERVISOR: "started", **({"why": why} if why else {})})


def why_started(run: RunFolder) -> str:
    """Return why the newest supervisor had to be started; empty where nobody knew."""
    starts = [event for event in run.events()[0] if event.get(SUPERVISOR) == "started"]
    return str(starts[-1].get("why", "")) if starts else ""


def environment(cluster: Cluster) -> dict[str, str]:
    """Return the variables of a job on a cluster; nothing else of this process's own travels."""
    threads = str(cluster.cpus_per_gpu)
    ours = {"PYTHONPATH": import_path(), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, "MLP_THREADS": threads}
    return {**ours, **cluster.environment}


def _last_words(log: Path) -> str:
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if log.exists() else []
    return " ".join(said)
