"""A cluster that is there already: a second Spark Connect server with tables in its own catalog, which we do not version."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import free_port

import jupyter_mlp as mlp
from jupyter_mlp.core.config import Settings
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on a port of its own, with a catalog of its own."""
    from pyspark.sql.connect import local_server

    from jupyter_mlp.backends import spark_runtime, spark_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        patch.setenv("SPARK_CONNECT_AUTHENTICATE_TOKEN", "")
        patch.delenv("SPARK_CONNECT_AUTHENTICATE_TOKEN")  # the server gets a token of its own, and in the end the old one is back
        options, port = spark_server._server_options, str(free_port())
        patch.setattr(spark_server, "_server_options", lambda *given: {**options(*given), "spark.local.connect.server.port": port})
        address = spark_server.start_local(Settings(spark="local[1]", spark_memory="1g", idle_stop_s=900)).address
        try:
            yield address
        finally:
            patch.setenv("SPARK_LOCAL_CONNECT_DISCOVERY", str(spark_runtime.runtime_folder() / "connect.json"))
            with local_server.Discovery() as discovery:
                local_server.LocalConnectServer(discovery).stop()


@pytest.mark.slow
def test_a_server_is_no_child_of_who_started_it(cluster: str) -> None:
    from jupyter_mlp.backends import spark_runtime

    found = [int(path.read_text()) for path in spark_runtime.runtime_folder().glob("*.pid")]
    assert len(found) == 1
    assert os.getsid(found[0]) != os.getsid(0), "a kernel that is killed with its children would take it along"


@pytest.mark.slow
def test_what_is_not_versioned_there_is_recorded_by_fingerprint(
    cluster: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLP_SPARK", cluster)
    session = workspace.engine.session
    host = cluster.removeprefix("sc://").split("/")[0]
    session.sql("CREATE TABLE orders USING parquet AS SELECT id, id % 3 AS kind FROM range(10)")
    session.sql("CREATE GLOBAL TEMPORARY VIEW numbers AS SELECT id FROM range(4)")
    sql = "SELECT kind, count(*) AS n FROM orders GROUP BY kind ORDER BY kind"

    first = mlp.query(sql, name="kinds")
    assert first.to_pandas()["n"].tolist() == [4, 3, 3]
    assert [ref.name for ref in first.inputs] == [f"sc://{host}/orders"] and first.inputs[0].version
    (note,) = first.notes
    assert f"orders is not versioned here: the cluster {host} has it" in note and "this result is a copy" in note
    assert note in repr(first)

    again = mlp.query(sql, name="kinds")
    assert not again.reused and again.inputs == first.inputs and "files are those of" in again.notes[0]

    time.sleep(0.01)
    session.sql("INSERT INTO orders VALUES (10, 0)")
    changed = mlp.query(sql, name="kinds")
    assert changed.to_pandas()["n"].tolist() == [5, 3, 3]
    assert changed.inputs != first.inputs and "files changed since it was read at" in changed.notes[0]
    assert mlp.dataset(first.ref).to_pandas()["n"].tolist() == [4, 3, 3]  # what was copied stays

    session.sql("DROP TABLE orders")
    assert mlp.dataset(changed.ref).to_pandas()["n"].tolist() == [5, 3, 3]
    plain = mlp.query("SELECT count(*) AS n FROM global_temp.numbers", name="counted")
    assert plain.inputs == () and "without files to know it again by" in plain.notes[0]
