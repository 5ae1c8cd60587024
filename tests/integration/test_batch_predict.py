"""Predicting a dataset as a Spark job: the same answers as in this process, one version or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models import ODD, make_model, publish, rows_of

import jupyter_mlp as mlp
from jupyter_mlp import prediction
from jupyter_mlp.core.errors import InvalidInputError, JobError, NotFoundError
from jupyter_mlp.serving import scoring
from jupyter_mlp.store import datasets
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def by_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset counts as large."""
    monkeypatch.setattr(prediction, "HERE_ROWS", 0)
    monkeypatch.setattr(scoring, "_SPLIT_ROWS", 1000)


def many(workspace: Workspace, name: str = "trips", files: int = 3, rows: int = 5000) -> None:
    """A dataset of several files with several row groups each."""

    def write(folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        for number in range(files):
            table = rows_of(rows, seed=number).append_column("id", pa.array(range(number * rows, (number + 1) * rows)))
            pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=700)
        return []

    with workspace.activities.recording("query", name=name) as draft:
        datasets.publish(workspace, draft, name, write)


def scored(model: str, **more: Any) -> DatasetVersion:
    found = mlp.predict(model, data="trips", **more)
    assert isinstance(found, DatasetVersion)
    return found


def test_spark_gives_what_this_process_gives(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(workspace)
    many(workspace)
    here = scored(model, into="here")
    with monkeypatch.context() as patched:
        patched.setattr(prediction, "HERE_ROWS", 0)
        patched.setattr(scoring, "_SPLIT_ROWS", 1000)
        there = scored(model, into="there")
    assert here.to_arrow().equals(there.to_arrow()), "the same rows in the same order"
    assert there.to_arrow(["id"])["id"].to_pylist() == list(range(15_000))
    makers = [workspace.activities.maker(found.reference) for found in (here, there)]
    assert [maker.facts["scored"]["by"] for maker in makers if maker] == ["here", "spark"]
    assert len(there.files) == makers[1].facts["scored"]["splits"] == 12, "of 1,000 rows or more, in whole row groups"
    assert {str(ref) for ref in there.inputs} == {f"model:{model}", mlp.dataset("trips").ref}
    again = scored(model, into="there")
    assert again.reused and again.ref == there.ref


@pytest.mark.parametrize(("task", "code"), [("binary", None), ("multiclass", None), ("regression", ODD)])
def test_every_kind_of_model_is_scored(workspace: Workspace, by_spark: None, task: str, code: str | None) -> None:
    model = make_model(workspace, task=task, code=code)
    publish(workspace, "trips", rows_of(300, task=task))
    found = scored(model, keep="carrier")
    assert found.schema.names == ["prediction", *([] if task == "regression" else ["probability"]), "carrier"]
    answers = mlp.predict(model, data=rows_of(300, task=task).drop_columns(["target"]).to_pylist())
    assert found.to_arrow()["prediction"].to_pylist() == pytest.approx(list(answers), abs=1e-3) if code else list(answers)


def test_a_worker_that_is_killed_is_replaced(workspace: Workspace, by_spark: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = make_model(workspace)
    many(workspace)
    marker, each, calls = str(tmp_path / "killed"), workspace.engine.each, []

    def with_a_kill(count: int, work: Any, progress: Any = None) -> None:
        calls.append(count)

        def dying(number: int) -> None:  # runs in Spark's Python workers: that of the last split dies once, with a half-made file
            if number == count - 1:
                with suppress(FileExistsError):
                    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                    while not list(work.args[-1].glob("part-*")):
                        time.sleep(0.01)
                    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            work(number)

        each(count, dying, progress)

    monkeypatch.setattr(workspace.engine, "each", with_a_kill)
    found = scored(model, into="found")
    assert os.path.exists(marker) and len(calls) >= 2 and calls[-1] < calls[0], "a worker was killed, and what was done stayed done"
    monkeypatch.setattr(prediction, "HERE_ROWS", 1_000_000)
    assert found.to_arrow().equals(scored(model, into="here").to_arrow())
    folder = Path(found.files[0]).parent
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{number:05d}.parquet" for number in range(len(found.files))]


def test_a_job_that_fails_leaves_no_version_and_no_file(workspace: Workspace, by_spark: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(workspace)
    many(workspace)
    monkeypatch.setattr(workspace.engine, "each", _lost)
    with pytest.raises(JobError, match="was lost"):
        scored(model, into="predictions")
    assert workspace.activities.names("dataset") == ["trips"]
    assert not list((workspace.root / "lake").glob("**/predictions/**/*.parquet"))
    assert not list((workspace.root / "lake").glob("**/predictions/*"))


def test_a_killed_kernel_leaves_no_version(workspace: Workspace) -> None:
    model = make_model(workspace)
    many(workspace, rows=200_000)
    text = f"""
import jupyter_mlp as mlp
from jupyter_mlp import prediction
prediction.HERE_ROWS = 0
mlp.predict({model!r}, data="trips", into="half")
"""
    kernel = subprocess.Popen([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        _until(lambda: list((workspace.root / "lake").glob("**/half/*/part-*.parquet")) or kernel.poll() is not None, 120)
        assert kernel.poll() is None, "it is still at work"
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    assert "half" not in workspace.activities.names("dataset")
    found = scored(model, into="half")
    assert found.rows == 600_000 and len(np.unique(found.to_arrow(["id"])["id"].to_numpy())) == 600_000


def test_what_cannot_be_scored_is_said(workspace: Workspace, by_spark: None) -> None:
    model = make_model(workspace)
    publish(workspace, "trips", rows_of(30))
    publish(workspace, "other", pa.table({"dep_delay": [1.0]}))
    with pytest.raises(NotFoundError, match="no column gate to keep"):
        scored(model, keep="gate")
    with pytest.raises(NotFoundError, match="no column carrier"):
        mlp.predict(model, data="other")
    publish(workspace, "none", rows_of(30).slice(0, 0))
    with pytest.raises(InvalidInputError, match="no rows to predict"):
        mlp.predict(model, data="none")

    def wrong(number: int) -> None:
        raise InvalidInputError("wrong inside", "the hint")

    with pytest.raises(InvalidInputError, match="wrong inside") as refused:
        workspace.engine.each(2, wrong)
    assert "the hint" in refused.value.hint


def _lost(count: int, work: Any, progress: Any = None) -> None:
    """The first part is written, then everything fails."""
    work(0)
    raise JobError("A task of Spark was lost.")


def _until(true: Any, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.01)
