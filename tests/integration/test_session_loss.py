"""A kernel outlives its Spark server: one that stopped when idle, was killed between two cells, or in the midst of a query."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.store.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture
def own_server(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose Spark server nobody else uses, so that it may be killed."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    monkeypatch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", "")
    monkeypatch.delenv("SPARK_CONNECT_AUTHENTICATE_TOKEN")  # a token of its own, and in the end the old one is back
    monkeypatch.setenv("MLP_SPARK", "local[1]")
    monkeypatch.setenv("MLP_SPARK_MEMORY", "1g")
    yield workspace
    if _written().exists():
        os.kill(_pid(), signal.SIGKILL)


def _written() -> Path:
    from jupyter_mlp.backends.spark_runtime import runtime_folder

    return runtime_folder() / "connect.json"


def _pid() -> int:
    return int(json.loads(_written().read_text())["pid"])


def _noticed_s(workspace: Workspace) -> float:
    """How long it takes to see that the server is gone."""
    begun = time.perf_counter()
    assert workspace.engine._opened.gone
    return time.perf_counter() - begun


def test_a_server_that_was_killed_between_two_cells(own_server: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    mlp.write_table("lake.numbers", pd.DataFrame({"k": [1, 2, 3]}))
    mlp.statement("CREATE TEMP VIEW bigger AS SELECT k FROM lake.numbers WHERE k > 1")
    mlp.statement("CREATE TEMP VIEW biggest AS SELECT max(k) AS k FROM bigger")
    mlp.statement("CREATE OR REPLACE TEMP VIEW bigger AS SELECT k FROM lake.numbers WHERE k < 3")  # made after what reads it
    first = mlp.query("SELECT k FROM biggest", name="answer")
    mlp.query("SELECT 1 AS a", name="answer")
    old = own_server.engine.session
    old.range(1).createOrReplaceTempView("by_python")
    mlp.write_table("lake.numbers", pd.DataFrame({"k": [7, 8, 9]}))
    os.kill(_pid(), signal.SIGKILL)
    time.sleep(0.5)  # the kernel closes its port
    assert _noticed_s(own_server) < 0.5
    assert mlp.query("SELECT k FROM biggest", name="answer").ref == first.ref, "a view made again is of the versions it was made on"
    assert mlp.query("SELECT k FROM biggest", name="answer", fresh=True).to_pandas()["k"].tolist() == [2]
    (said,) = [record.getMessage() for record in caplog.records if "anew" in record.getMessage()]
    assert said == "Spark begins anew, because its session had ended; made again: temporary views bigger, biggest."

    mlp.statement("SET TIME ZONE 'Asia/Tokyo'")
    mlp.statement("DECLARE VARIABLE low INT DEFAULT 1")
    own_server.engine.session.udf.register("mine", lambda value: value)
    mlp.query("SELECT low AS l", name="answer")
    assert own_server.engine.user_functions() == {"mine"}
    caplog.clear()
    os.kill(_pid(), signal.SIGKILL)
    time.sleep(0.5)
    assert mlp.query("SELECT 1 AS a", name="answer").reused and not own_server.engine.started, "what is known needs no Spark"
    assert mlp.query("SELECT 1 AS a", name="answer", fresh=True).to_pandas()["a"].tolist() == [1]
    (said,) = [record.getMessage() for record in caplog.records if "anew" in record.getMessage()]
    assert "gone with the old session: temporary views bigger, biggest, setting spark.sql.session.timeZone" in said
    assert "function mine, its variables; run their cells again" in said
    assert not own_server.engine.views and own_server.engine.overrides() == {}


def test_a_server_that_stopped_because_it_was_idle(
    own_server: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLP_IDLE_STOP_S", "3")
    mlp.statement("CREATE TEMP VIEW one AS SELECT 1 AS a")
    found = mlp.query("SELECT a FROM one", name="answer")
    deadline = time.monotonic() + 60
    while _written().exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _noticed_s(own_server) < 0.5
    assert found.spark().count() == 1
    assert mlp.query("SELECT a + 1 AS b FROM one", name="answer").to_pandas()["b"].tolist() == [2]
    assert [record.getMessage() for record in caplog.records if "anew" in record.getMessage()] == [
        "Spark begins anew, because its session had ended; made again: temporary view one."
    ]


def test_a_server_that_is_killed_in_the_midst_of_a_query(own_server: Workspace) -> None:
    mlp.query("SELECT 1 AS a", name="warm", fresh=True)
    threading.Timer(3.0, os.kill, (_pid(), signal.SIGKILL)).start()
    begun = time.perf_counter()
    with pytest.raises(JobError) as error:
        mlp.query("SELECT count(*) AS n FROM range(100000000000) WHERE hash(id) % 7 = 1", name="endless")
    assert time.perf_counter() - begun < 10
    assert error.value.message == "The local Spark server ended while it worked on this." and "Run it again" in error.value.hint
    assert mlp.query("SELECT 2 AS a", name="after", fresh=True).to_pandas()["a"].tolist() == [2]
