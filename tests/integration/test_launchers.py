"""One suite, three launchers: the same promises on this machine, on a real Slurm and on a real Ray cluster.

On a machine without a GPU those of the two clusters are declared: they are scheduled like real ones and the ranks compute on
the processor. On one with GPUs the same suite runs on them, with as many ranks as there are.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray_server
import slurm_server
from safetensors.numpy import load_file
from test_training import NET, SLOW, dataset

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.store import gpus, jobs, registry
from jupyter_mlp.store.workspace import Workspace

REAL = gpus.count()
KINDS = tuple(os.environ.get("MLP_TEST_LAUNCHERS", "local slurm ray").split())
ONE_BY_ONE = SLOW.replace(
    "def training_step(self, batch, index):", "def training_step(self, batch, index):\n        print('step', self.global_step)"
)


class Place:
    """Where the suite's jobs run, and what a test may do to it."""

    settings = ""
    gpus = 0

    def cut(self) -> Callable[[], None]:
        """Make it unreachable for whoever looks; return what mends that."""
        raise NotImplementedError

    def fill(self) -> Callable[[], None]:
        """Let somebody else have all GPUs; return what frees them."""
        raise NotImplementedError


class Slurm(Place):
    settings, gpus = '[cluster.lab]\nkind = "slurm"\n', REAL or 32

    def __init__(self, server: slurm_server.Slurm) -> None:
        self.server = server

    def cut(self) -> Callable[[], None]:
        self.server.stop("slurmctld")
        return lambda: self.server.start("slurmctld")

    def fill(self) -> Callable[[], None]:
        job = self.server.says("sbatch", "--parsable", f"--gres=gpu:{self.gpus}", "--output=/dev/null", "--wrap=sleep 600").strip()
        self.server.until(lambda: "RUNNING" in self.server.says("squeue", f"--jobs={job}", "--format=%T"), 20)

        def free() -> None:
            self.server.says("scancel", job)

        return free


class Ray(Place):
    gpus = REAL or 32

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.gate = ray_server.Gate(cluster.web)
        self.settings = f'[cluster.lab]\nkind = "ray"\naddress = "{self.gate.url}"\n'

    def cut(self) -> Callable[[], None]:
        self.gate.close()
        return self.gate.open

    def fill(self) -> Callable[[], None]:
        return ray_server.hold(self.cluster.web, self.gpus)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if lacks := slurm_server.missing():
        pytest.skip(f"no {', '.join(lacks)}: apt-get install slurm-wlm munge, and be root")
    with slurm_server.running(tmp_path_factory.mktemp("slurm"), Slurm.gpus) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(server.conf))
        yield Slurm(server)


@pytest.fixture(scope="module")
def ray() -> Iterator[Ray]:
    with ray_server.running(*((1, REAL) if REAL else ())) as cluster:
        yield Ray(cluster)


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, workspace: Workspace) -> Iterator[Place]:
    found = Place() if kind == "local" else request.getfixturevalue(kind)
    workspace.root.mkdir(parents=True, exist_ok=True)
    (workspace.root / "mlp.toml").write_text(found.settings)
    dataset(workspace)
    yield found
    for activity in workspace.activities.recent(["train"], state="running"):  # of a test that failed
        mlp.run(f"run:{activity.id}").cancel()


def train(place: Place, folder: Path, source: str = NET, **more: Any) -> mlp.training.Run:
    (folder / "net.py").write_text(source)
    asked = {"batch_size": 256, "max_epochs": 2, "detach": True, "checkpoint_every": 3, "fresh": True, **more}
    return mlp.train(f"{folder / 'net.py'}:Net", data="rows", target="y", cluster="lab" if place.gpus else "local", **asked)


weights: dict[str, dict[str, bytes]] = {}  # of the same training on each, to the bit


@pytest.mark.slow
def test_the_same_training_is_the_same_everywhere(kind: str, place: Place, workspace: Workspace, tmp_path: Path) -> None:
    ranks = min(2, REAL or 2)
    run = train(place, tmp_path, gpus=ranks)
    code = f"import jupyter_mlp as mlp, json; run = mlp.run('{run.ref}').wait(); print(json.dumps(run.to_dict()))"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # another kernel attaches
    assert elsewhere.returncode == 0, elsewhere.stderr + told(run)
    seen = json.loads(elsewhere.stdout)
    assert (seen["state"], run.state) == ("finished", "finished")
    assert seen["model"] == run.model and len(run.attempts) == 1
    folder = jobs.folder_of(workspace, run.id)
    assert [step for step, _ in jobs.metric_series(folder)["val_loss"]] == [15, 30]
    assert "`max_epochs=2` reached" in run.logs() and (ranks == 1 or "--- rank 1 ---" in run.logs())
    assert {folder.read(f"rank.{rank}.json")["ended"] for rank in range(ranks)} == {"well"}  # type: ignore[index]
    assert {(use.rank, use.device) for use in run.usage} == {(rank, (gpus.names() or ["cpu"])[0]) for rank in range(ranks)}
    assert "uses " in repr(run) and seen["usage"][0]["device"] == run.usage[0].device
    assert all(use.cores > 0 and use.memory > 10**8 and bool(use.gpu_memory) == bool(REAL) for use in run.usage)
    model = registry.load(workspace, str(run.model))
    weights[kind] = {name: value.tobytes() for name, value in load_file(model.folder / "weights.safetensors").items()}
    assert all(found == weights[kind] for found in weights.values()), "another engine, other weights"
    assert mlp.evaluate(str(run.model), data="rows").metrics["mae"] > 0
    with pytest.raises(InvalidInputError) as error:
        train(place, tmp_path, gpus=place.gpus + 1 if place.gpus else 99)
    assert f"--gpus {place.gpus + 1 if place.gpus else 99}" in error.value.message
    assert len(list(workspace.runs.glob("*/spec.json"))) == 1, "what cannot fit is refused before it is packed"


@pytest.mark.slow
def test_whatever_is_killed_it_goes_on_and_says_so(place: Place, workspace: Workspace, tmp_path: Path) -> None:
    stands = (  # a step takes longer than a checkpoint: one that is due while another is written is left out
        "time.sleep(0.1); import os; "
        f"[time.sleep(0.05) for _ in iter(lambda: self.global_step > 20 and not os.path.exists('{tmp_path / 'go'}'), False)]"
    )
    run = train(place, tmp_path, ONE_BY_ONE.replace("time.sleep(0.05)", stands), retries=3)
    folder = jobs.folder_of(workspace, run.id)
    until(lambda: "step 21\n" in run.logs(), run)
    time.sleep(1)  # the last checkpoint is written beside the training
    at = saved(folder)
    assert 12 <= at <= 21
    if place.gpus:
        mend = place.cut()
        try:
            until(lambda: run.state == "unreachable", run)
            assert "does not answer" in repr(run)
        finally:
            mend()
        until(lambda: run.state == "running", run)
    kill(folder.read("rank.0.json")["pid"])  # type: ignore[index]
    until(lambda: len(taken_over(folder)) == 1, run)
    assert "killed" in run.attempts[1].why and run.attempts[1].resumes == at
    kill(supervisors(folder)[-1])
    until(lambda: run.state and len(supervisors(folder)) == 2, run)  # on a cluster whoever looks sends it again
    if place.gpus:  # an engine's ranks end with their supervisor
        until(lambda: len(taken_over(folder)) == 2, run)
        assert run.attempts[2].why, told(run)
    (tmp_path / "go").touch()
    run.wait()
    assert run.state == "finished", told(run)
    assert len(run.attempts) == (3 if place.gpus else 2), told(run)
    printed = [line for line in run.logs().splitlines() if line.startswith("step ")]
    assert printed == [f"step {step}" for step in range(30)], "a line is lost or doubled"
    assert [step for step, _ in jobs.metric_series(folder)["train_loss"]] == [15, 30]


@pytest.mark.slow
def test_a_cancelled_job_goes_on_as_another_with_other_gpus(place: Place, workspace: Workspace, tmp_path: Path) -> None:
    run = train(place, tmp_path, ONE_BY_ONE, max_epochs=500)
    folder = jobs.folder_of(workspace, run.id)
    until(lambda: saved(folder), run)
    run.cancel()
    at = saved(folder)
    assert f"--resume {run.ref} goes on from step {at}" in repr(run)
    again = mlp.train(resume=run, gpus=min(2, REAL or 2), max_epochs=at // 15 + 2).wait()
    assert again.state == "finished" and again.attempts[0].resumes == at, told(again)
    assert [step for step, _ in jobs.metric_series(jobs.folder_of(workspace, again.id))["train_loss"]][-1] == 15 * (at // 15 + 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind == "ray"], indirect=True, scope="module")
def test_a_job_that_comes_into_another_cluster_takes_nothing_there(
    place: Ray, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = place.fill()
    try:
        waits = train(place, tmp_path)
        until(lambda: waits.state == "queued", waits)
        folder = jobs.folder_of(workspace, waits.id)
        found = Path(shutil.copytree(folder.path, tmp_path / "stray"))  # the same job, sent to a head that is no more
        monkeypatch.setenv("RAY_ADDRESS", place.cluster.address)
        monkeypatch.setenv("MLP_RAY_SESSION", "session_of_another")
        subprocess.run([sys.executable, "-m", "jupyter_mlp.backends.ray_gang", str(found), str(workspace.root)], check=True, timeout=120)
        waits.cancel()
    finally:
        free()
    end = jobs.RunFolder(found).read("exit.json") or {}
    assert end["state"] == "failed" and "not in session_of_another" in end["error"] and "--temp-dir" in end["hint"]


@pytest.mark.slow
def test_a_job_waits_for_room_and_can_be_cancelled_whatever_it_does(
    place: Place, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLP_PROCESSES", "1")
    first = None if place.gpus else train(place, tmp_path, ONE_BY_ONE, max_epochs=500)
    if first:
        until(lambda: first.state == "running", first)
    free = place.fill() if place.gpus else first.cancel  # type: ignore[union-attr]
    try:
        waits = train(place, tmp_path, ONE_BY_ONE, max_epochs=501)
        until(lambda: waits.state == "queued", waits)
        other = train(place, tmp_path, ONE_BY_ONE, max_epochs=502)
        until(lambda: other.state == "queued", other)
        assert "queued" in repr(other)
        other.cancel()
        assert other.state == "cancelled" and other.attempts == ()
    finally:
        free()
    folder = jobs.folder_of(workspace, waits.id)
    until(lambda: saved(folder), waits)
    assert waits.state == "running"
    pid = folder.read("rank.0.json")["pid"]  # type: ignore[index]
    waits.cancel()
    assert waits.state == "cancelled", told(waits)
    with pytest.raises(JobError, match="was cancelled"):
        waits.wait()
    until(lambda: not is_alive(pid), waits)


@pytest.mark.slow
def test_a_mistake_is_told_with_its_line_and_not_tried_again(place: Place, tmp_path: Path) -> None:
    run = train(place, tmp_path, NET.replace("self.loss(self(x), y)\n\n    def val", "self.loss(self(x[:, :2]), y)\n\n    def val"))
    with pytest.raises(JobError) as error:
        run.wait()
    assert "mat1 and mat2" in error.value.message and "In " in error.value.hint, told(run)
    assert len(run.attempts) == 1 and run.state == "failed" and run.model is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "local"], indirect=True, scope="module")
def test_a_gang_of_all_gpus_is_placed_at_once(place: Place, workspace: Workspace, tmp_path: Path) -> None:
    """Real ranks that have all begun, 32 where the GPUs are declared; `make proof ARGS=gang` lets them train to their end."""
    run = train(place, tmp_path, gpus=place.gpus)
    folder = jobs.folder_of(workspace, run.id)
    words = [f"rank.{rank}.json" for rank in range(place.gpus)]
    until(lambda: all((folder.path / word).exists() for word in words), run, 240)
    pids = {(folder.read(word) or {})["pid"] for word in words}
    assert len(pids) == place.gpus and all(is_alive(pid) for pid in pids) and len(run.attempts) == 1
    assert [there["free"] for there in mlp.clusters().to_dict()["clusters"]][1] == 0
    late = train(place, tmp_path, max_epochs=3)
    until(lambda: late.state == "queued", late)
    late.cancel()
    run.cancel()
    assert (late.state, run.state) == ("cancelled", "cancelled")
    until(lambda: not any(is_alive(pid) for pid in pids), run)


def saved(folder: jobs.RunFolder) -> int:
    return max((int(path.stem) for path in folder.path.glob("checkpoints/*.json")), default=0)


def taken_over(folder: jobs.RunFolder) -> list[dict[str, Any]]:
    """The takings over of an attempt from a checkpoint."""
    return [event for event in folder.events()[0] if event.get("taken_over", {}).get("step")]


def supervisors(folder: jobs.RunFolder) -> list[int]:
    return [event["pid"] for event in folder.events()[0] if event.get("supervisor") == "up"]


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def until(true: Callable[[], object], run: mlp.training.Run, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, told(run)
        time.sleep(0.1)


def told(run: mlp.training.Run) -> str:
    """All there is to know when a test fails."""
    folder = jobs.folder_of(run.workspace, run.id).path
    names = ("supervisor.log", "slurm.log", "srun.log", "events.jsonl", "exit.json", "handle.json", "log.txt")
    return "\n".join([repr(run), *(f"== {n}\n{(folder / n).read_text()[-2500:]}" for n in names if (folder / n).exists())])
