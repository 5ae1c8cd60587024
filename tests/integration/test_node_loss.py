"""A whole node of a Ray cluster is lost under a training of two processes: it goes on on the nodes that are left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray_server
from test_launchers import ONE_BY_ONE, Ray, saved, told, until
from test_training import dataset

import jupyter_mlp as mlp
from jupyter_mlp.store import jobs
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Three nodes with a GPU each, beside the head."""
    with ray_server.running(nodes=3, gpus=1) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_training_goes_on_on_the_nodes_that_are_left(nodes: Any, workspace: Workspace, tmp_path: Path) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    (workspace.root / "mlp.toml").write_text(Ray(nodes).settings)
    dataset(workspace)
    (tmp_path / "net.py").write_text(ONE_BY_ONE.replace("time.sleep(0.05)", "time.sleep(0.2)"))
    run = mlp.train(
        f"{tmp_path / 'net.py'}:Net", data="rows", target="y", cluster="lab", gpus=2, batch_size=256, max_epochs=4, checkpoint_every=3,
        detach=True,
    )  # fmt: skip
    folder = jobs.folder_of(workspace, run.id)
    for rank, number in ((1, 1), (0, 2)):
        until(lambda: len(run.attempts) == number and (folder.read("rank.0.json") or {}).get("attempt") == number, run)  # noqa: B023
        before = saved(folder)
        until(lambda: saved(folder) > before + 3, run)  # noqa: B023
        lost = node_of(nodes, folder, rank)
        nodes.remove_node(lost, allow_graceful=False)
        until(lambda: len(run.attempts) == number + 1, run, 240)  # noqa: B023
        assert run.attempts[number].why == f"Training process {rank} of 2 was lost with its node.", told(run)
        assert (run.attempts[number].resumes or 0) >= before, told(run)
        nodes.add_node(num_cpus=1, num_gpus=1, node_ip_address="127.0.0.1", node_name=f"fresh{number}")
    run.wait()
    assert run.state == "finished" and len(run.attempts) == 3, told(run)
    printed = [line for line in run.logs().split("--- rank 1")[0].splitlines() if line.startswith("step ")]
    assert printed == [f"step {step}" for step in range(60)], "a line is lost or doubled"


def node_of(cluster: Any, folder: jobs.RunFolder, rank: int) -> Any:
    """The node whose raylet has started a rank's process."""
    above = {one.pid for one in psutil.Process((folder.read(f"rank.{rank}.json") or {})["pid"]).parents()}
    return next(node for node in cluster.worker_nodes if {one.process.pid for one in node.all_processes["raylet"]} & above)
