"""Training processes fork from a warm parent: what they find, how their end is known, and what happens without it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jupyter_mlp.backends import warm
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store.leases import Lease

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """A warm parent of this module's own."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("r"))
    try:
        yield _started()
    finally:
        for process in _parents():
            process.kill()
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


def test_a_forked_process_is_as_one_that_was_started(parent: psutil.Process, tmp_path: Path) -> None:
    child, run = _train(tmp_path, "import os, sys\nprint(os.getcwd(), os.environ['MARK'], sys.path[0], os.getsid(0) == os.getpid())")
    assert child.pid != parent.pid and psutil.Process(child.pid).ppid() == parent.pid
    assert Lease(run / "ranks.lock").held
    assert child.wait() == 1  # this code has no model in it
    assert not Lease(run / "ranks.lock").held
    said = (run / "log").read_text()
    assert f"{run} here {run / 'code'} True" in said and "has no attribute 'Net'" in said
    assert json.loads((run / "rank.0.json").read_text())["ended"] == "error"
    assert "MARK" not in psutil.Process(parent.pid).environ()


def test_how_a_child_was_killed_is_known(parent: psutil.Process, tmp_path: Path) -> None:
    child, _ = _train(tmp_path, "import time; time.sleep(60)")
    assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and child.poll() == -signal.SIGKILL


def test_without_a_go_nothing_runs(parent: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "GO", b"n")
    child, run = _train(tmp_path, "")
    assert child.wait() == 0
    assert not (run / "rank.0.json").exists()


def test_a_child_outlives_its_parent_and_the_next_starts_afresh(parent: psutil.Process, tmp_path: Path) -> None:
    child, run = _train(tmp_path, "import time; time.sleep(2)")
    os.kill(parent.pid, signal.SIGKILL)
    assert child.poll() is None and psutil.pid_exists(child.pid)
    assert child.wait() == warm.UNKNOWN
    assert json.loads((run / "rank.0.json").read_text())["ended"] == "error"
    with open(os.devnull) as file:
        assert warm.fork(run, {}, file.fileno(), file.fileno()) is None
    _started()


def test_another_environment_has_another_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    here = warm.address()
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    assert warm.address() != here
    monkeypatch.delenv("MKL_NUM_THREADS")
    assert warm.address() == here


def _train(folder: Path, code: str) -> tuple[warm.Child, Path]:
    """Let the parent start a worker whose notebook is `code`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = folder / "run"
    (run / "code").mkdir(parents=True)
    (run / "code" / "captured.py").write_text(code)
    table = pa.table({"x": [0.5, 1.5] * 50, "y": [1.0, 2.0] * 50})
    pq.write_table(table, run / "rows.parquet")
    recipe = Recipe.infer(table.schema, "y", "regression").fit(table.to_batches())
    spec = {"data": {"files": [str(run / "rows.parquet")]}, "validation": None, "held_out": 0.1, "seed": 1, "class_name": "Net"}
    (run / "spec.json").write_text(json.dumps({**spec, "settings": {}, "max_epochs": 1, "batch_size": 10}))
    (run / "fitted.json").write_text(json.dumps(recipe.to_dict()))
    held = Lease(run / "ranks.lock").take()
    assert held is not None
    with open(run / "log", "w") as log:
        child = warm.fork(run, {**os.environ, "MARK": "here"}, log.fileno(), held)
    os.close(held)
    assert child is not None
    return child, run


def _started() -> psutil.Process:
    warm.keep(600)
    deadline = time.monotonic() + 120
    while True:  # it listens once it has imported everything
        assert time.monotonic() < deadline, (warm.address().parent / "log").read_text()
        with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(OSError):
            asking.connect(str(warm.address()))
            return _parents()[0]
        time.sleep(0.1)


def _parents() -> list[psutil.Process]:
    runtime = os.environ["XDG_RUNTIME_DIR"]
    found = []
    for process in psutil.process_iter():
        try:
            if "jupyter_mlp.backends.warm_parent" in process.cmdline() and process.environ().get("XDG_RUNTIME_DIR") == runtime:
                found.append(process)
        except psutil.Error:
            continue
    return found
