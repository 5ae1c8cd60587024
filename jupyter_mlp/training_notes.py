"""What a run says before it starts: what of the notebook, or of what was asked for, is not as it is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.notebook.capture import Captured
from jupyter_mlp.notebook.statements import statements_of
from jupyter_mlp.store import environment
from jupyter_mlp.store.processes import import_path

_COMPARED = ("torch", "lightning", "jupyter-mlp")
_ANSWER_S = 20.0
_ASKED = f"""
import json, platform
from importlib import metadata
found = {{}}
for name in {_COMPARED!r}:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps({{"python": platform.python_version(), "packages": found}}))
"""


def before_launch(cluster: Cluster, priority: int, captured: Captured, cells: Sequence[str]) -> list[str]:
    """Return sentences for the run's notes."""
    return [
        note for note in (other_environment(cluster), unused_priority(cluster, priority), unused_threads(cluster, captured, cells)) if note
    ]


def other_environment(cluster: Cluster) -> str:
    """Name what differs in the Python that a cluster is told to use; "" where nothing does, or it cannot be asked from here."""
    if not cluster.python or cluster.python == sys.executable:
        return ""
    told = {**os.environ, **cluster.environment, "PYTHONPATH": import_path()}
    try:
        done = subprocess.run([cluster.python, "-c", _ASKED], capture_output=True, text=True, timeout=_ANSWER_S, env=told)
        there = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    ours = {name: version for name, version in environment.packages().items() if name in _COMPARED}
    there["packages"].setdefault("jupyter-mlp", ours.get("jupyter-mlp"))  # not installed there, it is run from here
    here = {"python": ".".join(map(str, sys.version_info[:3])), "packages": ours}
    differs = environment.changed(here, there)
    return f"The Python of [cluster.{cluster.name}] is not the notebook's: {differs}." if differs else ""


def unused_priority(cluster: Cluster, priority: int) -> str:
    """Say where a priority does not do what it says."""
    if cluster.kind == "slurm" and priority > 0:
        return f"--priority {priority} is not used: on Slurm a user can only step back behind others of his own (a negative one)."
    if cluster.kind == "ray" and priority:
        return f"--priority {priority} is not used: Ray keeps no order of priorities among waiting jobs."
    return ""


def unused_threads(cluster: Cluster, captured: Captured, cells: Sequence[str]) -> str:
    """Say that a number of threads that a cell sets is not that of the job."""
    call = "torch.set_num_threads("
    if call in captured.source or not any(call in one.text for one in statements_of(cells) if one.kind == "other"):
        return ""
    how = "MLP_THREADS in the environment" if cluster == LOCAL else f"cpus_per_gpu in [cluster.{cluster.name}]"
    return f"torch.set_num_threads() of the notebook is not carried: the processes of the job share the cores; {how} sets another number."
