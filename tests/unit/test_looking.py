"""What is shown of a job on a cluster: asked seldom, and unreachable where nobody answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jupyter_mlp.backends.looking import Looks
from jupyter_mlp.backends.ray import RayLauncher
from jupyter_mlp.backends.ray_dashboard import Dashboard
from jupyter_mlp.backends.slurm import SlurmLauncher
from jupyter_mlp.core.clusters import UNREACHABLE, Cluster, Sight
from jupyter_mlp.core.entities import CANCELLED, QUEUED, RUNNING
from jupyter_mlp.core.errors import InvalidInputError, JobError, UnreachableError
from jupyter_mlp.store import clusters, jobs
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace


def test_an_engine_is_asked_once_in_a_while() -> None:
    asked: list[int] = []
    looks = Looks(fresh_s=60)
    for _ in range(100):
        assert looks.at("job", lambda: asked.append(1) or Sight(QUEUED, "for room")) == Sight(QUEUED, "for room")
    assert len(asked) == 1


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> Sight:
        raise UnreachableError("lab does not answer.")

    assert Looks().at("job", silent) == Sight(UNREACHABLE, "lab does not answer.")
    here = RayLauncher(Cluster("lab", "ray", address="http://127.0.0.1:9"))
    assert here.look({"job": "one"}).state == UNREACHABLE
    with pytest.raises(UnreachableError, match=r"lab does not answer at http://127.0.0.1:9"):
        here.nodes()


def test_code_is_not_sent_to_a_ray_that_anybody_can_send_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InvalidInputError, match="without a token") as error:
        RayLauncher(Cluster("lab", "ray", address="http://192.0.2.1:8265")).shape(1)
    assert "trusted = true" in error.value.hint


def test_slurm_is_not_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="scontrol is not on this machine"):
        SlurmLauncher(Cluster("lab", "slurm")).nodes()


def test_an_unreachable_cluster_fails_no_run_and_a_cancelled_one_is_not_sent_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(workspace.runs / "one")
    where = Cluster("lab", "ray", address="http://127.0.0.1:9").to_dict()
    folder.write("spec.json", {"gpus": 1, "cluster": "lab", "where": where})
    folder.write("handle.json", {"job": "one", "folder": str(folder.path), "where": where})
    assert jobs.state_of(folder) == (RUNNING, "")
    assert clusters.sight(folder).state == UNREACHABLE
    (folder.path / "handle.json").unlink()  # never sent: it cannot be sent now either
    assert jobs.state_of(folder) == (RUNNING, "") and folder.read("exit.json") is None

    def known(self: Dashboard, method: str, path: str, body: Any = None, absent: Any = None) -> Any:
        assert method == "GET", "nothing is sent"
        return {"status": "STOPPED"}

    monkeypatch.setattr(Dashboard, "asked", known)
    folder.write("handle.json", {"job": "two", "folder": str(folder.path), "where": where})
    assert jobs.state_of(folder) == (CANCELLED, "Somebody stopped it on the cluster.")
