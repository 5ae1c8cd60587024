"""Queries through the real warm Spark Connect server, on exactly pinned table versions."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import threading
import time

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError
from jupyter_mlp.store.workspace import Workspace

FLIGHTS = pd.DataFrame({"carrier": ["UA", "AA", "UA", "DL"], "delay": [5.0, None, -3.0, 12.5], "month": [1, 1, 2, 2]})


@pytest.fixture
def flights(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.flights", FLIGHTS)
    return workspace


def test_a_query_knows_what_it_read(flights: Workspace) -> None:
    found = mlp.query("SELECT carrier, count(*) AS n FROM lake.flights GROUP BY carrier ORDER BY carrier", name="carriers")
    assert found.to_pandas().to_dict("list") == {"carrier": ["AA", "DL", "UA"], "n": [1, 1, 2]}
    assert [str(ref) for ref in found.inputs] == [f"table:lake.flights@{flights.lake.current('lake.flights')}"]
    assert found.rows == 3 and not found.reused
    assert "lake.flights" in repr(found) and "first" not in repr(found)


def test_what_spark_refuses_before_a_table_is_missed_has_its_place(flights: Workspace) -> None:
    _ = flights.engine.session
    with pytest.raises(InvalidInputError, match="Syntax error") as refused:
        mlp.query("SELECT IDENTIFIER('k') + 10L SET WHERE FROM INTERVAL FROM IDENTIFIER('k')", name="few")
    assert refused.value.position and refused.value.hint.startswith("Line 1, column ")


def test_how_the_rows_are_stored(workspace: Workspace) -> None:
    found = mlp.query("SELECT id % 3 AS k, id * 0.5D AS `a#b`, cast(id AS FLOAT) AS `Größe` FROM range(1000)", name="stored")
    group = pq.read_metadata(found.files[0]).row_group(0)
    stored = {group.column(at).path_in_schema: group.column(at) for at in range(3)}
    assert {one.compression for one in stored.values()} == {"ZSTD"}
    encoded = {name for name, one in stored.items() if any("DICTIONARY" in encoding for encoding in one.encodings)}
    assert encoded == {"k"}  # numbers with a point do not repeat


def test_asked_again_spark_does_not_run(flights: Workspace) -> None:
    sql = "SELECT month, avg(delay) AS d FROM lake.flights GROUP BY month"
    first = mlp.query(sql, name="delays")
    fresh_kernel = Workspace(flights.root)  # nothing of Spark in it
    again = mlp.query("select month,   avg(delay) AS d -- a comment\nFROM lake.flights group by month", name="delays")
    assert again.reused and again.ref == first.ref
    assert not fresh_kernel.engine.started


def test_a_new_version_of_the_table_is_a_new_answer(flights: Workspace) -> None:
    sql = "SELECT sum(month) AS s FROM lake.flights"
    old = mlp.query(sql, name="months")
    mlp.write_table("lake.flights", FLIGHTS.assign(month=[1, 1, 1, 1]))
    new = mlp.query(sql, name="months")
    assert not new.reused and new.to_pandas()["s"].tolist() == [4]
    assert mlp.dataset(old.ref).to_pandas()["s"].tolist() == [6]
    assert mlp.dataset("months").ref == new.ref


def test_the_users_own_version_wins(flights: Workspace) -> None:
    before = flights.lake.current("lake.flights")
    mlp.write_table("lake.flights", FLIGHTS.head(1))
    found = mlp.query(f"SELECT count(*) AS n FROM lake.flights VERSION AS OF {before}", name="counted")
    assert found.to_pandas()["n"].tolist() == [4]
    assert [ref.version for ref in found.inputs] == [before]


def test_append_and_new_columns(flights: Workspace) -> None:
    mlp.write_table("lake.flights", pd.DataFrame({"carrier": ["XX"], "gate": ["B7"]}), append=True)
    found = mlp.query("SELECT carrier, gate, delay FROM lake.flights ORDER BY carrier", name="all").to_pandas()
    assert found["carrier"].tolist() == ["AA", "DL", "UA", "UA", "XX"]
    assert found["gate"].tolist()[-1] == "B7" and pd.isna(found["delay"].tolist()[-1])


def test_parameters_are_bound_never_pasted(workspace: Workspace) -> None:
    hostile = "x'; DROP TABLE t; --"
    found = mlp.query("SELECT :a AS a, :b AS b, :c AS c", name="bound", params={"a": hostile, "b": 2, "c": datetime.date(2013, 1, 1)})
    assert found.to_pandas().to_dict("list") == {"a": [hostile], "b": [2], "c": [datetime.date(2013, 1, 1)]}
    other = mlp.query("SELECT :a AS a, :b AS b, :c AS c", name="bound", params={"a": hostile, "b": "2", "c": "2013-01-01"})
    assert not other.reused


def test_a_dataset_is_a_table_of_the_next_query(flights: Workspace) -> None:
    first = mlp.query("SELECT * FROM lake.flights WHERE delay > 0", name="late")
    second = mlp.query("SELECT max(delay) AS m FROM late", name="latest")
    assert second.to_pandas()["m"].tolist() == [12.5]
    assert [str(ref) for ref in second.inputs] == [first.ref]


def test_what_a_table_cannot_hold_is_answered_and_said(workspace: Workspace) -> None:
    found = mlp.query("SELECT 1 AS a, 2 AS a, NULL AS b, INTERVAL 1 DAY AS c", name="odd")
    assert found.schema.names == ["a", "a_2", "b", "c"]
    assert len(found.notes) == 3


def test_never_reused_when_it_may_differ(workspace: Workspace) -> None:
    first = mlp.query("SELECT rand() AS r", name="random")
    assert "never reused" in first.notes[0]
    assert not mlp.query("SELECT rand() AS r", name="random").reused


@pytest.mark.parametrize(
    ("sql", "said", "hint"),
    [
        ("SELECT * FROM lake.flihgts", "No table or dataset lake.flihgts", "Did you mean lake.flights?"),
        ("SELECT carier FROM lake.flights", "carier", "Line 1, column 8"),
        ("SELECT carrier\n FORM lake.flights x y", "Syntax error", "Line 2"),
        ("SELECT *\nFROM lake.flights\nWHERE no_such(carrier)", "no_such", "Line 3, column 7"),
        ("SELECT 1 / (month - month) FROM lake.flights", "Division by zero", "column 8"),
        ("SELECT :missing AS m", "missing", "Line 1, column 8"),
        (3, "of type int", "mlp.query("),
    ],
)
def test_mistakes_get_two_lines(flights: Workspace, sql: str, said: str, hint: str) -> None:
    with pytest.raises((InvalidInputError, NotFoundError)) as error:
        mlp.query(sql, name="wrong")
    assert said in error.value.message and hint in error.value.hint
    assert "\tat " not in str(error.value) and "mlp_flights" not in str(error.value)
    assert "wrong" not in flights.activities.names("dataset")


def test_ctrl_c_stops_spark_and_not_the_session(workspace: Workspace) -> None:
    mlp.query("SELECT 1 AS a", name="warm", fresh=True)
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        mlp.query("SELECT count(*) AS n FROM range(100000000000) WHERE hash(id) % 7 = 1", name="endless")
    assert time.perf_counter() - begun < 15
    assert mlp.query("SELECT 2 AS a", name="after", fresh=True).to_pandas()["a"].tolist() == [2]
    assert workspace.activities.names("dataset") == ["after", "warm"]


def test_progress_is_reported(flights: Workspace) -> None:
    seen: list[tuple[int, int, int]] = []
    mlp.query(
        "SELECT count(*) AS n FROM range(300000000) WHERE hash(id) % 7 = 1", name="slow", progress=lambda *report: seen.append(report)
    )
    assert seen and all(len(report) == 3 for report in seen)


def test_files_and_globs_become_tables(workspace: Workspace) -> None:
    folder = workspace.root.parent / "in"
    folder.mkdir()
    FLIGHTS.to_csv(folder / "a.csv", index=False)
    FLIGHTS.to_csv(folder / "b.csv", index=False)
    table = mlp.write_table("lake.both", str(folder / "*.csv"))
    assert table.rows == 8 and "(2 files)" in repr(table)
    FLIGHTS.to_parquet(folder / "c.parquet")
    assert mlp.write_table("one", (folder / "c.parquet").as_uri()).ref.startswith("table:lake.one@")
    with pytest.raises(NotFoundError) as error:
        mlp.write_table("lake.none", str(folder / "*.xls"))
    assert "No Parquet, CSV or JSON file" in str(error.value)
    with pytest.raises(InvalidInputError):
        mlp.write_table("lake.none", object())
    with pytest.raises(InvalidInputError):
        mlp.write_table("a.b.c", FLIGHTS)


def test_handing_over(flights: Workspace) -> None:
    found = mlp.query("SELECT * FROM lake.flights ORDER BY month, delay", name="handed")
    assert isinstance(found.to_arrow(["delay"]), pa.Table)
    assert found.to_polars().height == 4
    assert found.spark().count() == 4
    batch = next(iter(found.loader(batch_size=2, columns=["month"])))
    assert batch["month"].tolist() == [1, 1]
    with pytest.raises(InvalidInputError) as error:
        found.loader(columns=["carrier"])
    assert "carrier" in str(error.value)
    with pytest.raises(NotFoundError) as unknown:
        found.to_arrow(["delai"])
    assert "Did you mean delay?" in str(unknown.value)


def test_looking_at_rows(flights: Workspace) -> None:
    found = mlp.query("SELECT * FROM lake.flights", name="looked")
    assert "1 null" in repr(found)
    assert found.head(2, sort="-delay").table["delay"].to_pylist() == [12.5, 5.0]
    assert found.head(1, sort="delay").to_dict()["rows"] == [{"carrier": "UA", "delay": -3.0, "month": 2}]
    profile = {column["name"]: column for column in found.profile().to_dict()["columns"]}
    assert (profile["delay"]["nulls"], profile["delay"]["low"], profile["delay"]["high"]) == (1, -3.0, 12.5)
    with pytest.raises(NotFoundError) as unknown:
        found.head(sort="dealy")
    assert "Did you mean delay?" in unknown.value.hint


def test_files_removed_behind_our_back_are_named(flights: Workspace) -> None:
    found = mlp.query("SELECT * FROM lake.flights", name="gone")
    shutil.rmtree(os.path.dirname(found.files[0]))
    with pytest.raises(StorageError) as error:
        mlp.dataset("gone")
    assert "gone" in error.value.message and "--fresh" in error.value.hint


def test_a_version_referred_to_is_tagged(flights: Workspace) -> None:
    found = mlp.query("SELECT * FROM lake.flights", name="pinned")
    facts = flights.activities.maker(found.reference).facts["dataset"]  # type: ignore[union-attr]
    for table, snapshot in ((facts["table"], facts["snapshot"]), ("lake.flights", found.inputs[0].version)):
        refs = flights.lake.catalog.load_table(table).refs()
        assert f"mlp-{snapshot}" in refs


def test_an_empty_result_is_a_result(flights: Workspace) -> None:
    found = mlp.query("SELECT * FROM lake.flights WHERE false", name="none")
    assert found.rows == 0 and found.schema.names == ["carrier", "delay", "month"]
    assert mlp.query("SELECT count(*) AS n FROM none", name="counted").to_pandas()["n"].tolist() == [0]
