"""Views and functions that Python makes, replaces or drops in the session that cells use: no answer is of what was there before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def session(workspace: Workspace) -> Any:
    """The session, in which a cell made the view `a` of a one, and another reads it as `b`."""
    mlp.statement("CREATE OR REPLACE TEMP VIEW a AS SELECT 1 AS n")
    mlp.statement("CREATE OR REPLACE TEMP VIEW b AS SELECT n FROM a")
    for name in ("a", "b"):
        assert seen(name) == [1] and mlp.query(f"SELECT n FROM {name}", name="seen").reused
    return workspace.engine.session


def seen(name: str) -> list[int]:
    """What a query of a view gives."""
    rows: list[int] = mlp.query(f"SELECT n FROM {name}", name="seen").to_arrow()["n"].to_pylist()
    return rows


REPLACED: dict[str, Callable[[Any], Any]] = {
    "a frame": lambda session: session.sql("SELECT 2 AS n").createOrReplaceTempView("a"),
    "another case": lambda session: session.sql("SELECT 2 AS n").createOrReplaceTempView("A"),
    "SQL": lambda session: session.sql("CREATE OR REPLACE TEMP VIEW a AS SELECT 2 AS n"),
    "SQL with a comment": lambda session: session.sql("/* 2 */ CREATE OR REPLACE TEMPORARY VIEW `a` (n) AS SELECT 2"),
    "IDENTIFIER": lambda session: session.sql("CREATE OR REPLACE TEMP VIEW IDENTIFIER('a') AS SELECT 2 AS n"),
    "EXECUTE IMMEDIATE": lambda session: session.sql("EXECUTE IMMEDIATE 'CREATE OR REPLACE TEMP VIEW ' || chr(97) || ' AS SELECT 2 AS n'"),
    "ALTER": lambda session: session.sql("ALTER VIEW a AS SELECT 2 AS n"),
    "a script": lambda session: session.sql("BEGIN CREATE OR REPLACE TEMP VIEW a AS SELECT 2 AS n; END"),
}


@pytest.mark.parametrize("how", REPLACED)
def test_a_view_replaced_from_python_has_its_new_rows(session: Any, how: str) -> None:
    REPLACED[how](session)
    assert session.sql("SELECT n FROM a").collect()[0][0] == 2
    assert seen("a") == [2] and seen("b") == [2]
    found = mlp.query("SELECT n FROM a", name="seen")
    assert not found.reused and any("the view a means is not known any more" in note for note in found.notes)
    mlp.statement("CREATE OR REPLACE TEMP VIEW a AS SELECT 1 AS n")
    assert seen("a") == [1] and mlp.query("SELECT n FROM a", name="seen").reused


DROPPED: dict[str, Callable[[Any], Any]] = {
    "the catalog": lambda session: session.catalog.dropTempView("a"),
    "SQL": lambda session: session.sql("DROP VIEW IF EXISTS a"),
    "EXECUTE IMMEDIATE": lambda session: session.sql("EXECUTE IMMEDIATE 'DROP VIEW a'"),
}


@pytest.mark.parametrize("how", DROPPED)
def test_a_view_dropped_from_python_is_gone(session: Any, how: str) -> None:
    DROPPED[how](session)
    with pytest.raises(NotFoundError):
        mlp.query("SELECT n FROM a", name="seen")
    with pytest.raises(InvalidInputError):
        mlp.query("SELECT n FROM b", name="seen")
    mlp.write_table("a", pd.DataFrame({"n": [3]}))
    assert seen("a") == [3]


def test_what_makes_no_view_leaves_them_known(session: Any) -> None:
    session.sql("SELECT 1").collect()
    session.range(3).createOrReplaceTempView("c")
    session.conf.set("spark.sql.session.timeZone", session.conf.get("spark.sql.session.timeZone"))
    session.sql("CREATE OR REPLACE TEMPORARY FUNCTION f() RETURNS INT RETURN 1")
    assert session.catalog.tableExists("a") and session.catalog.listTables()
    mlp.query("SELECT n FROM b", name="frame").spark().toPandas()
    assert mlp.query("SELECT n FROM b", name="seen").reused


def test_a_column_that_is_called_like_a_variable_is_none(workspace: Workspace) -> None:
    sql = "SELECT 1 AS var, 2 AS execute"
    mlp.query(sql, name="seen")
    assert mlp.query(sql, name="seen").reused


@pytest.mark.parametrize("how", ["BEGIN SET low = 2; END", "EXECUTE IMMEDIATE 'SET VAR ' || 'lo' || 'w = 2'"])
def test_a_variable_whose_name_is_hidden_is_seen(workspace: Workspace, how: str) -> None:
    mlp.statement("DECLARE OR REPLACE VARIABLE low INT DEFAULT 1")
    sql = "SELECT low AS l"
    assert mlp.query(sql, name="seen").to_arrow()["l"].to_pylist() == [1]
    workspace.engine.session.sql(how)
    assert mlp.query(sql, name="seen").to_arrow()["l"].to_pylist() == [2]
    assert mlp.query(sql, name="seen").reused


def test_spark_is_asked_for_functions_only_after_they_may_have_changed(workspace: Workspace) -> None:
    session = workspace.engine.session
    sql = "SELECT upper('a') AS u"
    frame = mlp.query(sql, name="seen").spark()
    requests: list[str] = []
    calls = {name: getattr(session.client, name) for name in ("config", "execute_command", "_execute_and_fetch_as_iterator")}

    def counted(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            requests.append(name)
            return calls[name](*given, **more)

        return call

    for name in calls:
        setattr(session.client, name, counted(name))
    assert mlp.query(sql, name="seen").reused
    requests.clear()
    assert mlp.query(sql, name="seen").reused and not requests
    frame.sparkSession.sql("CREATE OR REPLACE TEMPORARY FUNCTION f() RETURNS INT RETURN 1")
    assert mlp.query(sql, name="seen").reused and requests

    def asks_nothing() -> bool:
        requests.clear()
        assert mlp.query(sql, name="seen").reused
        return not requests

    assert any(asks_nothing() for _ in range(20)), "nothing changed since"  # the end of a request is noticed after its answer
    for register in (
        lambda: frame.sparkSession.udf.register("upper", lambda value: "mine"),
        lambda: session.sql("CREATE OR REPLACE TEMPORARY FUNCTION g(v STRING) RETURNS STRING RETURN 'mine'"),
        lambda: session.sql("BEGIN CREATE OR REPLACE TEMPORARY FUNCTION h(v STRING) RETURNS STRING RETURN 'mine'; END"),
    ):
        register()
    for name in ("upper", "g", "h"):
        found = mlp.query(f"SELECT {name}('a') AS u", name="seen")
        assert not found.reused and f"{name}() is your own function" in found.notes[-1]
