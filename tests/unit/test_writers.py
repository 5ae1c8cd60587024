"""Several processes write the same table and the same dataset name: the short form of `make proof ARGS=writers`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from proof_writers import prove

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, MLPError, StorageError
from jupyter_mlp.store import commits, datasets
from jupyter_mlp.store.workspace import Workspace


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_nothing_is_lost_or_doubled(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").make() if database == "postgres" else ""
    found = prove(["table", "dataset"], database, writers=4, commits=8, url=url)
    assert not found.wrong, str(found)


def someone_else(workspace: Workspace, rows: dict[str, Any], append: bool = False) -> None:
    """Another process writes the table: it has seen what is there now."""
    table = pa.table(rows)
    workspace.lake.commit("lake.t", table.schema, workspace.lake.stage("lake.t", table.to_batches(), table.schema), append=append)


def rows(workspace: Workspace) -> list[int]:
    return workspace.lake._find("lake.t").scan().to_arrow()["a"].to_pylist()  # type: ignore[union-attr]


@pytest.mark.usefixtures("any_database")
def test_what_was_not_seen_is_not_replaced(workspace: Workspace) -> None:
    first = mlp.write_table("lake.t", pa.table({"a": [1]}))
    with Workspace(workspace.root).activities.recording("table", name="lake.t") as draft:
        someone_else(workspace, {"a": [2]}, append=True)
        draft.made.append(first.reference.__class__("table", "lake.t", workspace.lake.current("lake.t")))
        draft.facts["rows"] = 2
    with pytest.raises(ConflictError, match=re.escape("lake.t was written by")) as error:
        mlp.write_table("lake.t", pa.table({"a": [3]}))
    assert "2 rows. Nothing was replaced." in error.value.message and "--append" in error.value.hint
    assert rows(workspace) == [2, 1] and workspace.activities.recent()[0].state == "failed"
    assert len(list((workspace.root / "lake" / "lake" / "t" / "data").iterdir())) == 2  # what lost left nothing
    mlp.write_table("lake.t", pa.table({"a": [3]}))  # now it is known
    assert rows(workspace) == [3]


def test_what_a_query_saw_may_be_replaced(workspace: Workspace) -> None:
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    someone_else(workspace, {"a": [2]})
    from jupyter_mlp.store import questions

    questions.ask(workspace, "SELECT * FROM lake.t", {})
    mlp.write_table("lake.t", pa.table({"a": [3]}))
    assert rows(workspace) == [3]


def test_a_table_that_was_made_meanwhile_is_not_replaced(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = workspace.lake.stage

    def slow(*args: Any) -> list[str]:
        monkeypatch.setattr(workspace.lake, "stage", stage)
        someone_else(workspace, {"a": [1]})
        return stage(*args)

    monkeypatch.setattr(workspace.lake, "stage", slow)
    with pytest.raises(ConflictError):
        mlp.write_table("lake.t", pa.table({"a": [2]}))
    assert rows(workspace) == [1]


@pytest.mark.usefixtures("any_database")
def test_two_first_writers_of_a_table_both_write(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the namespace and the table after we looked whether it is there, and before we write it down."""
    book = workspace.lake._book
    make = book._make

    def late() -> None:
        make()
        monkeypatch.setattr(book, "_make", make)
        workspace.lake.catalog.create_namespace("lake")
        workspace.lake.catalog.create_table("lake.t", pa.schema([("a", pa.int64())]))

    monkeypatch.setattr(book, "_make", late)
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    assert rows(workspace) == [1]
    places = list((workspace.root / "lake" / "lake" / "t" / "metadata").glob("00000-*.json"))
    assert len(places) == 1, "the description of ours that nobody points to is gone"


def test_a_writer_killed_while_it_swaps_leaves_the_lake_readable(workspace: Workspace) -> None:
    """It had begun to write into the catalog's file: the next one, a reader, takes that back."""
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    path = workspace.root / "lake" / "catalog.db"
    code = f"""
import os, sqlite3
catalog = sqlite3.connect({str(path)!r}, isolation_level=None)
for statement in ("PRAGMA cache_size = 1", "BEGIN IMMEDIATE", "CREATE TABLE filler AS SELECT randomblob(100000) AS b",
                  "UPDATE iceberg_tables SET metadata_location = 'file:///half'", "CREATE TABLE more AS SELECT randomblob(900000) AS b"):
    catalog.execute(statement)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert path.with_name("catalog.db-journal").stat().st_size > 0, "it was killed in the middle"
    assert workspace.lake.names() == ["lake.t"] and rows(workspace) == [1]
    mlp.write_table("lake.t", pa.table({"a": [2]}), append=True)
    assert sorted(rows(workspace)) == [1, 2]


@pytest.mark.usefixtures("any_database")
def test_an_append_starts_again_on_what_a_writer_without_manners_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    swap = workspace.lake._book.swap

    def late(*args: Any) -> None:
        monkeypatch.setattr(workspace.lake._book, "swap", swap)
        workspace.lake.catalog.load_table("lake.t").append(pa.table({"a": [2]}))  # another tool, which knows of no queue
        swap(*args)

    monkeypatch.setattr(workspace.lake._book, "swap", late)
    base = workspace.lake.current("lake.t")
    found = mlp.write_table("lake.t", pa.table({"a": [3]}), append=True)
    assert sorted(rows(workspace)) == [1, 2, 3] and found.rows == 3
    used = [ref.version for ref in workspace.activities.recent()[0].used]
    assert used and used != [base]  # the record names what it was really added to


def test_a_lost_answer_is_no_lost_commit(workspace: Workspace, postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server commits, and the connection breaks before it can say so: the commit is found, and not made twice."""
    from sqlalchemy import event

    from jupyter_mlp.store import servers

    monkeypatch.setenv("MLP_DATABASE", postgres.make())
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    engine = servers.engine(os.environ["MLP_DATABASE"])
    swapping = []

    @event.listens_for(engine, "before_cursor_execute")
    def watch(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        swapping.extend([1] if statement.startswith("UPDATE iceberg_tables") else [])

    def break_off(connection: Any) -> None:
        if swapping:
            swapping.clear()
            connection.connection.dbapi_connection.commit()
            import psycopg
            from sqlalchemy.exc import OperationalError

            raise OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))

    event.listen(engine, "commit", break_off)
    try:
        found = mlp.write_table("lake.t", pa.table({"a": [2]}), append=True)
    finally:
        event.remove(engine, "commit", break_off)
    assert found.rows == 2 and sorted(rows(workspace)) == [1, 2]


def test_manifests_are_merged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_MANIFESTS", 3)
    for number in range(8):
        someone_else(workspace, {"a": [number]}, append=True)
    table = workspace.lake._find("lake.t")
    assert table is not None and len(table.current_snapshot().manifests(table.io)) <= 3  # type: ignore[union-attr]
    assert sorted(rows(workspace)) == list(range(8))
    for place, snapshot in enumerate(table.snapshots()):
        assert table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows == place + 1


def test_dataset_versions_do_not_drag_old_manifests_along(workspace: Workspace) -> None:
    for number in range(5):
        with workspace.activities.recording("query", name="d") as draft:
            datasets.publish_table(workspace, draft, "d", pa.table({"a": [number]}))
    facts = workspace.activities.recent()[0].facts["dataset"]
    table = workspace.lake.catalog.load_table(facts["table"])
    assert len(table.snapshots()) == 5 and len(table.current_snapshot().manifests(table.io)) == 2  # what is there, what was taken out


def test_a_broken_queue_is_no_failed_commit(workspace: Workspace, postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is cut right after the swap, the one that holds the turn too: the version is there, and recorded."""
    import psycopg

    url = postgres.make()
    monkeypatch.setenv("MLP_DATABASE", url)
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    swap = workspace.lake._book.swap

    def cut(*args: Any) -> None:
        swap(*args)
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with psycopg.connect(url) as connection:
            connection.execute(f"SELECT pg_terminate_backend(pid) {others}")

    monkeypatch.setattr(workspace.lake._book, "swap", cut)
    found = mlp.write_table("lake.t", pa.table({"a": [2]}), append=True)
    assert found.rows == 2 and workspace.activities.recent()[0].state == "finished"


def test_no_lease_outlives_a_write_that_fails(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    mlp.write_table("lake.t", pa.table({"a": [2]}), append=True)
    failing = (KeyboardInterrupt, ConflictError("lake.t is being written by others.", "Later."), OSError(28, "disk full"))
    for error in failing:
        monkeypatch.setattr(commits, "commit", lambda *_args, error=error, **_options: (_ for _ in ()).throw(error))
        for write in (lambda: mlp.write_table("lake.t", pa.table({"a": [3]})), lambda: mlp.compact("lake.t")):
            with pytest.raises((KeyboardInterrupt, MLPError)):
                write()
            assert workspace.lake._leases == {} and not list((workspace.root / "writers").iterdir())
    monkeypatch.setattr(workspace.activities, "find", lambda *_: 1 / 0)  # before anything is committed
    with pytest.raises(ZeroDivisionError):
        mlp.write_table("lake.t", pa.table({"a": [3]}))
    assert workspace.lake._leases == {}


def test_the_same_rows_bring_back_a_version_whose_files_were_lost(workspace: Workspace) -> None:
    before = mlp.write_table("lake.t", pa.table({"a": [1]}))
    assert mlp.write_table("lake.t", pa.table({"a": [1]})).reused
    for path in (workspace.root / "lake" / "lake" / "t" / "data").iterdir():
        path.unlink()
    again = mlp.write_table("lake.t", pa.table({"a": [1]}))
    assert again.ref != before.ref and not again.reused and rows(workspace) == [1]


def test_a_lost_list_of_files_is_said(workspace: Workspace) -> None:
    mlp.write_table("lake.t", pa.table({"a": [1]}))
    for path in (workspace.root / "lake" / "lake" / "t" / "metadata").glob("*-m0.avro"):
        path.unlink()
    with pytest.raises(StorageError, match=re.escape("committing lake.t")):
        mlp.write_table("lake.t", pa.table({"a": [1]}))
