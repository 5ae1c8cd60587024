"""From --gpus to nodes x GPUs per node; clusters in the settings; the templates of a site."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from jupyter_mlp import machines
from jupyter_mlp.backends import slurm, slurm_gang
from jupyter_mlp.core import config
from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.core.entities import QUEUED, RUNNING
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.shapes import Node, has, shape
from jupyter_mlp.store import templates

LAB = [Node(f"n{number}", 8, 8, 16) for number in range(4)]


@pytest.mark.parametrize(
    ("gpus", "nodes", "expected"),
    [
        (32, LAB, (4, 8)),
        (12, LAB, (2, 6)),
        (8, LAB, (1, 8)),
        (1, LAB, (1, 1)),
        (6, [*LAB[:2], Node("small", 2, 2, 4)], (1, 6)),
        (3, [Node("a", 0, 0, 2), Node("b", 0, 0, 4)], (1, 3)),
    ],
)
def test_the_fewest_nodes_with_the_same_number_on_each(gpus: int, nodes: list[Node], expected: tuple[int, int]) -> None:
    found = shape(gpus, nodes, "lab")
    assert (found.nodes, found.per_node) == expected
    assert found.device == ("gpu" if nodes[0].gpus else "cpu")


def test_what_can_never_fit_is_refused_with_what_would() -> None:
    with pytest.raises(InvalidInputError) as error:
        shape(33, LAB, "lab")
    assert error.value.message == "--gpus 33: lab has 32 GPUs (4 nodes of 8)."
    assert "--gpus 32 (4 x 8)" in error.value.hint
    with pytest.raises(InvalidInputError) as error:
        shape(11, LAB, "lab")
    assert "--gpus 10 (2 x 5) or --gpus 12 (2 x 6)" in error.value.hint
    with pytest.raises(InvalidInputError, match="and 1 node down"):
        shape(32, [*LAB[:3], Node("n4", 8, 8, 16, down="down")], "lab")
    with pytest.raises(InvalidInputError, match="has 0 GPUs") as error:
        shape(1, [Node("n", 8, 8, 16, down="drain")], "lab")
    assert "until a node is up" in error.value.hint
    assert has([Node("n", 0, 0, 2)]) == "no GPU and 2 cores on 1 node"


def test_clusters_are_tables_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mlp.toml").write_text('keep_days = 3\n[cluster.lab]\nkind = "slurm"\npartition = "gpu"\noptions = ["--account=ml"]\n')
    found = config.load(tmp_path, {})
    assert found.keep_days == 3 and found.cluster == {"lab": Cluster("lab", "slurm", partition="gpu", options=("--account=ml",))}
    assert Cluster.from_dict(found.cluster["lab"].to_dict()) == found.cluster["lab"]


@pytest.mark.parametrize(
    ("table", "said", "hint"),
    [
        ("[cluster.lab]", "has no kind", 'kind = "slurm"'),
        ('[cluster.lab]\nkind = "slurm"\npartion = "gpu"', "'partion'", "Did you mean partition?"),
        ('[cluster.lab]\nkind = "slurm"\noptions = "--account"', "options", "a list of texts"),
        ('[cluster.lab]\nkind = "slurm"\ncpus_per_gpu = true', "cpus_per_gpu", "a number"),
        ('[cluster.local]\nkind = "slurm"', "named local", "another name"),
        ('cluster = "lab"', "'lab'", "[cluster.NAME]"),
        ('cluster = ""', "''", "[cluster.NAME]"),
        ("cluster = 0", "0", "[cluster.NAME]"),
    ],
)
def test_a_mistake_in_a_cluster_is_named(tmp_path: Path, table: str, said: str, hint: str) -> None:
    (tmp_path / "mlp.toml").write_text(table)
    with pytest.raises(InvalidInputError) as error:
        config.load(tmp_path, {})
    assert said in error.value.message and hint in error.value.hint


def test_a_site_has_its_own_template(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("#!/bin/bash\n#SBATCH --nodes=${nodes}\necho $$HOME")
    assert templates.rendered("slurm/train.sbatch", {"nodes": "4"}, str(tmp_path / "own")).endswith("--nodes=4\necho $HOME")
    with pytest.raises(InvalidInputError, match="names 'nodes', which nobody fills in"):
        templates.rendered("slurm/train.sbatch", {}, str(tmp_path / "own"))
    (tmp_path / "own").write_text("echo $(hostname)")
    with pytest.raises(InvalidInputError, match="a dollar that names nothing"):
        templates.rendered("slurm/train.sbatch", {}, str(tmp_path / "own"))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        templates.rendered("slurm/train.sbatch", {}, str(tmp_path / "none"))


def test_the_train_job_names_what_the_operator_knows() -> None:
    """Its fields are those of the TrainJob's schema in Kubeflow Trainer 2.2; an operator refuses others."""
    words = {"name": "mlp-1", "nodes": "4", "per_node": "8", "image": "site/image:1", "python": "python"}
    found = yaml.safe_load(templates.rendered("kubernetes/trainjob.yaml", {**words, "folder": "/ws/runs/1", "root": "/ws", "claim": "ws"}))
    assert (found["apiVersion"], found["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    trainer = found["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert trainer["command"][-1] == "/ws/runs/1" and trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 8}
    assert set(found["spec"]) == {"runtimeRef", "trainer", "runtimePatches"}


def test_what_slurm_says_of_gpus_and_ends() -> None:
    assert [slurm._gpus(gres) for gres in ("gpu:32", "gpu:a100:8(S:0-1),gpu:h100:4", "(null)", "tmp:8", "gpu:0")] == [32, 12, 0, 0, 0]
    told = {"NodeName": "n", "Gres": "gpu:a:8", "GresUsed": "gpu:a:3(IDX:0-2)", "CPUTot": "64"}
    assert slurm._node({**told, "State": "MIXED"}) == Node("n", 8, 5, 64)
    assert slurm._node({**told, "State": "IDLE+DRAIN"}).down == "idle+drain"
    said = "srun: error: node1: task 3: Killed\nsrun: error: node1: tasks 0-2: Exited with exit code 1\n"
    assert slurm_gang._SAID.findall(said) == [("3", "Killed"), ("0", "Exited with exit code 1")]


def test_of_this_machine_the_queue_says_which_gpus_are_free() -> None:
    seen = machines.Place(LOCAL, (Node("here", 4, 4, 8),))
    place = machines._with(seen, {RUNNING: 2, QUEUED: 1}, taken=[0, 2, 2])  # two jobs share one where the settings let them
    assert (place.free, place.gpus, place.running, place.queued) == (2, 4, 2, 1)
    assert "2 running, 1 queued" in repr(machines.Clusters((place,)))
    away = machines._with(machines.Place(Cluster("lab", "slurm"), (Node("n1", 8, 3, 32),)), {}, taken=[0])
    assert (away.free, away.running) == (3, 0)
