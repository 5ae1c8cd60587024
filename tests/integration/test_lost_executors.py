"""Predicting a dataset while what Spark runs on is killed: the whole version or none, and nothing that stays in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from models import ODD, make_model
from test_batch_predict import many, scored

import jupyter_mlp as mlp
from jupyter_mlp import prediction
from jupyter_mlp.backends.spark_runtime import runtime_folder
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.serving import scoring
from jupyter_mlp.store.workspace import Workspace

pytestmark = pytest.mark.slow
# Each of the many splits takes a moment, so that there is a midst.
SLOWLY = ODD.replace("found = self", "import time; time.sleep(0.05); found = self")
SPLIT = 500


@pytest.fixture
def own_server(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose Spark server nobody else uses, where every dataset is large."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", "")
    monkeypatch.delenv("SPARK_CONNECT_AUTHENTICATE_TOKEN")  # a token of its own, and in the end the old one is back
    monkeypatch.setenv("MLP_SPARK", "local[1]")
    monkeypatch.setenv("MLP_SPARK_MEMORY", "1g")
    monkeypatch.setenv("MLP_GC_GRACE_S", "0")
    monkeypatch.setattr(prediction, "HERE_ROWS", 0)
    monkeypatch.setattr(scoring, "_SPLIT_ROWS", SPLIT)
    yield workspace
    pid = server()
    if pid is not None and psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)


def server() -> int | None:
    """The process of the Spark server; None where there is none."""
    try:
        return int(json.loads((runtime_folder() / "connect.json").read_text())["pid"])
    except FileNotFoundError:
        return None


def parts(workspace: Workspace) -> list[Path]:
    """The files of predictions that are whole, of a version or of what may become one."""
    return list((workspace.root / "lake").glob("**/half/*/part-*.parquet"))


@contextmanager
def killing(workspace: Workspace, times: int, kill: Callable[[], object]) -> Iterator[list[int]]:
    """Kill so many times, each time when some more parts are written; gives how many there were."""
    done: list[int] = []
    over = threading.Event()

    def work() -> None:
        while len(done) < times and not over.is_set():
            there = len(parts(workspace))
            if there >= (done[-1] if done else 0) + 3:
                kill()
                done.append(there)
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def kill_server() -> None:
    pid = server()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def whole(workspace: Workspace, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """See that the version `half` is all there: what this process says of the same rows, and no other file."""
    found = scored(model, into="half")
    monkeypatch.setattr(prediction, "HERE_ROWS", 1_000_000)
    assert found.to_arrow().equals(scored(model, into="here").to_arrow())
    folder = Path(found.files[0]).parent
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{number:05d}.parquet" for number in range(len(found.files))]


def test_a_server_that_is_lost_once_costs_the_splits_in_hand_only(own_server: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(own_server, code=SLOWLY)
    many(own_server)
    with killing(own_server, 1, kill_server) as killed:
        made = scored(model, into="half")
    assert killed and not made.reused
    whole(own_server, model, monkeypatch)


def test_a_server_that_is_lost_each_time_leaves_no_version_and_no_file(own_server: Workspace) -> None:
    model = make_model(own_server, code=SLOWLY)
    many(own_server)
    with killing(own_server, 3, kill_server) as killed, pytest.raises(JobError, match="Spark server ended"):
        scored(model, into="half")
    assert len(killed) == 3 and killed[-1] < 30, "it was not done"
    assert "half" not in own_server.activities.names("dataset") and not parts(own_server)


def test_when_the_kernel_is_lost_too_the_next_run_works_and_gc_takes_the_rest(
    own_server: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine goes down."""
    model = make_model(own_server, code=SLOWLY)
    many(own_server)
    text = f"""
import jupyter_mlp as mlp
from jupyter_mlp import prediction
from jupyter_mlp.serving import scoring
prediction.HERE_ROWS, scoring._SPLIT_ROWS = 0, {SPLIT}
mlp.predict({model!r}, data="trips", into="half")
"""
    kernel = subprocess.Popen([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        until(lambda: len(parts(own_server)) >= 3 or kernel.poll() is not None)
        assert kernel.poll() is None, "it is still at work"
    finally:
        pid = server()
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] if pid else []
        for process in [*family, psutil.Process(kernel.pid)]:
            process.kill()
        kernel.wait()
    left = parts(own_server)
    assert left and "half" not in own_server.activities.names("dataset")
    whole(own_server, model, monkeypatch)
    mlp.gc(yes=True)
    assert not any(path.exists() or path.parent.exists() for path in left)
    assert mlp.dataset("half").rows == 15_000 and len(mlp.dataset("half").to_arrow()) == 15_000


def until(true: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)
