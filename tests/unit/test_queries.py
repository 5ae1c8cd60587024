"""Which tables a query reads, and what makes two queries the same."""

import pytest

from jupyter_mlp.core import queries, sql_reader
from jupyter_mlp.core.errors import InvalidInputError


def rewritten(query: queries.Query, views: list[str]) -> tuple[str, list[tuple[int, int, int]]]:
    return queries.rewrite(query, dict(zip(query.tables, views, strict=True)))


def tables(sql: str) -> list[str]:
    return [use.name for use in sql_reader.read(sql).tables]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM lake.flights", ["lake.flights"]),
        ("SELECT 'lake.x' AS a -- lake.y\nFROM lake.flights /* lake.z */", ["lake.flights"]),
        ("WITH x AS (SELECT * FROM lake.a) SELECT * FROM x", ["lake.a"]),
        ("WITH trips AS (SELECT * FROM trips) SELECT * FROM trips", ["trips"]),
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT * FROM t", []),
        ("SELECT * FROM a JOIN lake.b USING (k) WHERE x IN (SELECT y FROM lake.`c`)", ["a", "lake.b", "lake.c"]),
        ("SELECT 1", []),
    ],
)
def test_tables_read(sql: str, expected: list[str]) -> None:
    assert tables(sql) == expected


def test_rewrite_touches_only_table_names() -> None:
    sql = "SELECT lake.flights.carrier, 'lake.flights' FROM lake.flights JOIN lake.planes p USING (tailnum) -- lake.flights"
    text, _ = rewritten(sql_reader.read(sql), ["v1", "v2"])
    assert text == "SELECT flights.carrier, 'lake.flights' FROM v1 AS `flights` JOIN v2 p USING (tailnum) -- lake.flights"


def test_the_users_own_version_is_read_and_removed() -> None:
    read = sql_reader.read("SELECT * FROM lake.flights VERSION AS OF 12 f")
    assert [(use.name, use.version) for use in read.tables] == [("lake.flights", "12")]
    assert rewritten(read, ["v"])[0].split() == "SELECT * FROM v f".split()


def test_alias_goes_behind_a_sample() -> None:
    read = sql_reader.read("SELECT * FROM lake.flights TABLESAMPLE (10 PERCENT) JOIN lake.b USING (k)")
    text, _ = rewritten(read, ["v", "w"])
    assert "v TABLESAMPLE (10 PERCENT) AS `flights` JOIN w AS `b`" in text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t", "select   a\n from t -- why"),
        ("SELECT a FROM t;", "SELECT a FROM t"),
        ("SELECT a /* x */ FROM t WHERE b = 'X'", "SELECT a FROM t where b = 'X'"),
    ],
)
def test_formatting_does_not_change_a_query(one: str, other: str) -> None:
    assert sql_reader.read(one).canonical == sql_reader.read(other).canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'a' FROM t", "SELECT 'A' FROM t"),
        ("SELECT Date FROM t", "SELECT date FROM t"),
        ("SELECT 1", "SELECT 1.0"),
        ("SELECT `a b`", "SELECT a b"),
    ],
)
def test_meaning_does(one: str, other: str) -> None:
    assert sql_reader.read(one).canonical != sql_reader.read(other).canonical


@pytest.mark.parametrize("call", ["rand()", "now()", "current_timestamp()", "current_date", "uuid()", "my_udf(a)"])
def test_what_may_differ_is_said(call: str) -> None:
    assert sql_reader.read(f"SELECT {call} FROM t").volatile


@pytest.mark.parametrize("call", ["upper(a)", "count(*)", "date_add(d, 1)", "try_divide(a, b)", "percentile(a, 0.5)", "to_date(a)"])
def test_what_may_not_is_not(call: str) -> None:
    assert not sql_reader.read(f"SELECT {call} FROM t").volatile


def test_unreadable_text_is_kept_and_never_reused() -> None:
    read = sql_reader.read("FROM lake.t |> WHERE ((( ")
    assert not read.understood
    assert read.volatile


@pytest.mark.parametrize("sql", ["", "   ", "-- only a comment", "SELECT 1; SELECT 2"])
def test_one_statement_only(sql: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        sql_reader.read(sql)
    assert refused.value.hint


def test_positions_lead_back_to_the_users_text() -> None:
    sql = "SELECT a, b FROM lake.flights WHERE no_such(1)"
    read = sql_reader.read(sql)
    text, edits = rewritten(read, ["a_much_longer_view_name"])
    at = text.index("no_such")
    assert sql[queries.original_position(edits, at) :].startswith("no_such")
