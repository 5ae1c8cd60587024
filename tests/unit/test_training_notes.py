"""What a run says before it starts of what is not as it is in the notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jupyter_mlp import training_notes
from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.notebook.capture import Captured


def test_another_interpreter_of_a_cluster_is_compared_before_launch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    other = Cluster("lab", "slurm", python=str(tmp_path / "bin" / "python"))
    said = training_notes.other_environment(other)
    assert said.startswith("The Python of [cluster.lab] is not the notebook's: lightning ") and said.count(" -> missing") == 2
    assert "jupyter" not in said  # it is run from here
    site = next(tmp_path.glob("lib/python*/site-packages"))
    (site / "torch-0.1.dist-info").mkdir()
    (site / "torch-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    assert " -> 0.1" in training_notes.other_environment(other)


def test_the_same_interpreter_and_one_that_is_not_here_say_nothing() -> None:
    for python in ("", sys.executable, "/nowhere/python"):
        assert training_notes.other_environment(Cluster("lab", "ray", python=python)) == ""


def test_what_is_asked_for_and_not_used_is_said() -> None:
    assert "--priority 3 is not used" in training_notes.unused_priority(Cluster("lab", "slurm"), 3)
    assert training_notes.unused_priority(Cluster("lab", "slurm"), -3) == ""
    assert "--priority -3 is not used" in training_notes.unused_priority(Cluster("pool", "ray"), -3)
    assert training_notes.unused_priority(LOCAL, 3) == ""


def test_a_number_of_threads_that_does_not_travel_is_said() -> None:
    cells, captured = ["import torch\ntorch.set_num_threads(1)"], Captured("Net", "import torch\n")
    assert "MLP_THREADS" in training_notes.unused_threads(LOCAL, captured, cells)
    assert "cpus_per_gpu in [cluster.lab]" in training_notes.unused_threads(Cluster("lab", "slurm"), captured, cells)
    assert training_notes.unused_threads(LOCAL, captured, ["import torch"]) == ""
    assert training_notes.unused_threads(LOCAL, Captured("Net", "torch.set_num_threads(1)\n"), cells) == ""
