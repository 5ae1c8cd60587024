"""The same answers as plain Spark: TPC-H, and what a session holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import tpch

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.store.workspace import Workspace, current


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """TPC-H at scale 0.01 in the lake; plain Spark reads the generator's own files."""
    root = tmp_path_factory.mktemp("tpch")
    files = tpch.generate(root / "files", 0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_WORKSPACE", str(root / "workspace"))
        for name in tpch.TABLES:
            mlp.write_table(f"lake.{name}", str(files / f"{name}.parquet"))
        plain = current().engine.session.newSession()
        plain.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        for name in tpch.TABLES:
            plain.read.parquet(str(files / f"{name}.parquet")).createOrReplaceTempView(name)
        yield plain


@pytest.mark.parametrize("number", tpch.QUERIES)
def test_tpch_equals_plain_spark(plain: Any, number: int) -> None:
    sql = tpch.QUERIES[number]
    found = mlp.query(sql, name="answer")
    expected = plain.sql(sql).toPandas()
    pd.testing.assert_frame_equal(found.to_pandas(), expected, check_dtype=True)
    assert sorted(ref.name for ref in found.inputs) == sorted(f"lake.{name}" for name in tpch.READ[number].split())
    assert mlp.query(f"-- again\n{sql.replace('select', 'SELECT ')}", name="answer").reused


NUMBERS = pd.DataFrame({"k": [1, 2, 3], "v": ["a", "b", None]})


@pytest.fixture
def numbers(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.numbers", NUMBERS)
    return workspace


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("FROM lake.numbers |> WHERE k > 1 |> SELECT k", [2, 3]),
        ("TABLE lake.numbers |> SELECT numbers.k", [1, 2, 3]),
        ("TABLE lake.numbers", [1, 2, 3]),
        ("SELECT k FROM IDENTIFIER('lake.numbers')", [1, 2, 3]),
        ("WITH numbers AS (SELECT 9 AS k) SELECT k FROM numbers", [9]),
        ("WITH numbers AS (SELECT k + 1 AS k FROM numbers) SELECT k FROM numbers", [2, 3, 4]),
        ("SELECT lake.numbers.k FROM lake.numbers TABLESAMPLE (100 PERCENT)", [1, 2, 3]),
        ("SELECT n.k FROM `lake`.`numbers` n WHERE EXISTS (SELECT 1 FROM lake.numbers m WHERE m.k = n.k + 1)", [1, 2]),
        ("SELECT k FROM lake.numbers, LATERAL (SELECT k + 1 AS j) WHERE j > 3 -- FROM lake.none", [3]),
        ("SELECT a FROM (SELECT 'FROM lake.none' AS a, k FROM lake.numbers) WHERE k = 1", ["FROM lake.none"]),
    ],
)
def test_tables_are_pinned_wherever_they_stand(numbers: Workspace, sql: str, expected: list[object]) -> None:
    found = mlp.query(sql, name="answer")
    assert found.to_pandas().iloc[:, 0].tolist() == expected
    reads = "numbers" in sql.replace("WITH numbers AS (SELECT 9 AS k)", "").replace("FROM numbers", "")
    version = numbers.lake.current("lake.numbers")
    assert [str(ref) for ref in found.inputs] == ([f"table:lake.numbers@{version}"] if reads or "k + 1 AS k FROM numbers" in sql else [])


def test_a_parameter_may_name_the_table(numbers: Workspace) -> None:
    sql = "SELECT count(*) AS n FROM IDENTIFIER(:t)"
    found = mlp.query(sql, name="counted", params={"t": "lake.numbers"})
    assert found.to_pandas()["n"].tolist() == [3] and [ref.name for ref in found.inputs] == ["lake.numbers"]
    assert mlp.query(sql, name="counted", params={"t": "lake.numbers"}).reused
    mlp.write_table("lake.others", NUMBERS.head(1))
    assert mlp.query(sql, name="counted", params={"t": "lake.others"}).to_pandas()["n"].tolist() == [1]


def test_versions_by_time(numbers: Workspace) -> None:
    table = numbers.lake.catalog.load_table("lake.numbers")
    first = table.current_snapshot().timestamp_ms
    mlp.write_table("lake.numbers", NUMBERS.head(1))
    when = pd.Timestamp(first + 1, unit="ms", tz="UTC").isoformat()
    found = mlp.query(f"SELECT count(*) AS n FROM lake.numbers TIMESTAMP AS OF '{when}'", name="then")
    assert found.to_pandas()["n"].tolist() == [3]
    with pytest.raises(NotFoundError) as early:
        mlp.query("SELECT * FROM lake.numbers TIMESTAMP AS OF '2001-01-01'", name="then")
    assert "no version as old as 2001-01-01" in early.value.message


def test_a_temporary_view_reads_pinned_versions_and_is_known(numbers: Workspace) -> None:
    change = mlp.statement("CREATE OR REPLACE TEMP VIEW big AS SELECT k FROM lake.numbers WHERE k > 1")
    assert [ref.name for ref in change.inputs] == ["lake.numbers"]
    mlp.statement("CREATE OR REPLACE TEMP VIEW bigger AS SELECT k FROM big WHERE k > 2")
    found = mlp.query("SELECT k FROM bigger", name="answer")
    assert found.to_pandas()["k"].tolist() == [3] and found.inputs == change.inputs
    assert mlp.query("SELECT k FROM bigger", name="answer").reused
    mlp.write_table("lake.numbers", NUMBERS.assign(k=[7, 8, 9]))
    assert mlp.query("SELECT k FROM bigger", name="answer").reused, "a view is of the versions it was made on"
    mlp.statement("CREATE OR REPLACE TEMP VIEW big AS SELECT k FROM lake.numbers WHERE k > 1")
    mlp.statement("CREATE OR REPLACE TEMP VIEW bigger AS SELECT k FROM big WHERE k > 2")
    assert mlp.query("SELECT k FROM bigger ORDER BY k", name="answer").to_pandas()["k"].tolist() == [7, 8, 9]


def test_a_view_is_what_it_reads_today(workspace: Workspace) -> None:
    mlp.statement("CREATE OR REPLACE TEMP VIEW a AS SELECT 1 AS n")
    mlp.statement("CREATE OR REPLACE TEMP VIEW b AS SELECT n FROM a")
    assert mlp.query("SELECT n FROM b", name="seen").to_pandas()["n"].tolist() == [1]
    mlp.statement("CREATE OR REPLACE TEMP VIEW a AS SELECT 2 AS n")
    assert mlp.query("SELECT n FROM b", name="seen").to_pandas()["n"].tolist() == [2]
    mlp.statement("DECLARE OR REPLACE VARIABLE lim INT DEFAULT 1")
    mlp.statement("CREATE OR REPLACE TEMP VIEW c AS SELECT id FROM range(5) WHERE id < lim")
    assert mlp.query("SELECT count(*) AS n FROM c", name="seen").to_pandas()["n"].tolist() == [1]
    mlp.statement("SET VAR lim = 3")
    assert mlp.query("SELECT count(*) AS n FROM c", name="seen").to_pandas()["n"].tolist() == [3]


def test_a_view_of_what_has_no_version_has_none(workspace: Workspace) -> None:
    file = workspace.root.parent / "outside.parquet"
    NUMBERS.to_parquet(file)
    mlp.statement(f"CREATE OR REPLACE TEMP VIEW outside AS SELECT k FROM parquet.`{file}`")
    first = mlp.query("SELECT sum(k) AS s FROM outside", name="summed")
    assert first.to_pandas()["s"].tolist() == [6] and "not versioned here" in first.notes[0]
    NUMBERS.assign(k=[4, 5, 6]).to_parquet(file)
    mlp.statement(f"CREATE OR REPLACE TEMP VIEW outside AS SELECT k FROM parquet.`{file}`")
    assert mlp.query("SELECT sum(k) AS s FROM outside", name="summed").to_pandas()["s"].tolist() == [15]


def test_a_setting_in_the_text_is_not_reused(workspace: Workspace) -> None:
    mlp.statement("SET n = 5")
    assert mlp.query("SELECT ${n} AS n", name="set").to_pandas()["n"].tolist() == [5]
    mlp.statement("SET n = 6")
    assert mlp.query("SELECT ${n} AS n", name="set").to_pandas()["n"].tolist() == [6]


def test_a_short_name_takes_a_version_too(numbers: Workspace) -> None:
    version = numbers.lake.current("lake.numbers")
    mlp.write_table("lake.numbers", NUMBERS.head(1))
    found = mlp.query(f"SELECT count(*) AS n FROM numbers VERSION AS OF {version}", name="counted")
    assert found.to_pandas()["n"].tolist() == [3]


def test_session_variables_and_settings_are_part_of_the_question(workspace: Workspace) -> None:
    mlp.statement("DECLARE OR REPLACE VARIABLE low INT DEFAULT 1")
    assert mlp.query("SELECT low AS l", name="answer").to_pandas()["l"].tolist() == [1]
    assert mlp.query("SELECT low AS l", name="answer").reused
    mlp.statement("SET VAR low = 5")
    assert mlp.query("SELECT low AS l", name="answer").to_pandas()["l"].tolist() == [5]
    sql = "SELECT CAST(TIMESTAMP '2013-07-01 00:00:00 UTC' AS STRING) AS t"
    one = mlp.query(sql, name="time").to_pandas()["t"][0]
    mlp.statement("SET TIME ZONE 'Asia/Tokyo'")
    other = mlp.query(sql, name="time")
    assert not other.reused and other.to_pandas()["t"][0] == "2013-07-01 09:00:00" != one


def test_a_function_of_the_user_has_no_version(numbers: Workspace) -> None:
    frame = mlp.query("SELECT k, v FROM lake.numbers", name="kept").spark()
    frame.sparkSession.udf.register("upper", lambda value: "mine")
    found = mlp.query("SELECT upper(v) AS u FROM lake.numbers WHERE k = 1", name="answer")
    assert any("your own function" in note for note in found.notes)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE lake.numbers", "DROP is no query"),
        ("INSERT INTO lake.numbers VALUES (1, 'x')", "INSERT is no query"),
        ("SET a = 1", "SET"),
    ],
)
def test_what_is_no_query_is_refused(numbers: Workspace, sql: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        mlp.query(sql, name="answer")
    assert said in error.value.message and error.value.hint


@pytest.mark.parametrize(
    ("sql", "condition"),
    [
        ("SELECT nope FROM lake.numbers", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        ("SELECT * FROM lake.numbers WHERE", "PARSE_SYNTAX_ERROR"),
        ("SELECT k / 0 FROM lake.numbers", "DIVIDE_BY_ZERO"),
        ("SELECT * FROM lake.nowhere", "TABLE_OR_VIEW_NOT_FOUND"),
    ],
)
def test_errors_have_sparks_class(numbers: Workspace, sql: str, condition: str) -> None:
    with pytest.raises((InvalidInputError, NotFoundError)) as error:
        mlp.query(sql, name="answer")
    assert error.value.condition == condition


def test_results_that_a_table_cannot_hold(workspace: Workspace) -> None:
    found = mlp.query(
        "SELECT array(NULL) AS a, map('x', INTERVAL '1' DAY) AS m, named_struct('v', parse_json('1')) AS s, 1 AS `b c`, 2 AS `b c`",
        name="odd",
    )
    assert found.rows == 1 and found.schema.names == ["a", "m", "s", "b c", "b c_2"]
    assert sum("is stored as" in note for note in found.notes) == 4


def test_dates_that_python_does_not_have_are_shown_as_they_are(workspace: Workspace) -> None:
    found = mlp.query(
        "SELECT make_date(99999, 3, 18) AS d, TIMESTAMP_NTZ'99999-03-18 12:03:17' AS t, make_date(-1, 1, 28) AS b", name="far"
    )
    assert str(found).splitlines()[-1].split("  ")[1:] == ["99999-03-18", "", "99999-03-18 12:03:17.000000", "-001-01-28"]


def test_a_struct_without_fields_is_answered(workspace: Workspace) -> None:
    found = mlp.query("SELECT * EXCEPT (s.a) FROM VALUES (1, named_struct('a', 2)) AS t(n, s)", name="hollow")
    assert found.to_arrow().to_pylist() == [{"n": 1, "s": "{}"}]
    assert list(found.notes) == ["s (struct<>) is stored as string"]


def test_a_collation_that_a_table_does_not_keep_is_said(workspace: Workspace) -> None:
    two = "FROM VALUES ('B' COLLATE UTF8_BINARY, 'b' COLLATE UTF8_LCASE) AS t(binary, lower)"
    found = mlp.query(f"SELECT lower, concat_ws(' ', binary, lower) AS of_neither, binary {two}", name="collated", fresh=True)
    assert found.to_arrow().to_pylist() == [{"lower": "b", "of_neither": "B b", "binary": "B"}]
    assert list(found.notes) == [
        "lower (string collate UTF8_LCASE) is stored as string",
        "of_neither (string collate null) is stored as string",
    ]
    # As in plain Spark, this has no collation to compare by, and says so.
    with pytest.raises(InvalidInputError) as error:
        mlp.query(f"SELECT split_part(binary, lower, 1) {two}", name="collated")
    assert error.value.condition == "INDETERMINATE_COLLATION"


def test_a_view_dropped_is_unknown_again(numbers: Workspace) -> None:
    mlp.statement("CREATE TEMP VIEW gone AS SELECT 1 AS a")
    mlp.statement("DROP VIEW gone")
    with pytest.raises(NotFoundError):
        mlp.query("SELECT * FROM gone", name="answer")
