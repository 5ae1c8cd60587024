"""What a request does to the views and functions of its session, told from the request alone."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql.connect.proto import base_pb2

from jupyter_mlp.backends.spark_names import may_change_functions, touched_view


def sql(text: str) -> Any:
    """The plan of a statement."""
    plan = base_pb2.Plan()
    plan.command.sql_command.input.sql.query = text
    return plan


@pytest.mark.parametrize(
    ("text", "view", "functions"),
    [
        ("SELECT * FROM a", "", False),
        ("/* x */ WITH c AS (SELECT 1) SELECT * FROM c", "", False),
        ("CREATE OR REPLACE TEMP VIEW A AS SELECT 1", "a", False),
        ("create temporary view `a b` (n) as select 1", "a b", False),
        ("CREATE OR REPLACE TEMP VIEW IDENTIFIER('a') AS SELECT 1", None, False),
        ("DROP VIEW IF EXISTS a", "a", False),
        ("DROP VIEW IDENTIFIER('a')", None, True),
        ("ALTER VIEW a AS SELECT 1", None, True),
        ("CACHE TABLE a AS SELECT 1", None, True),
        ("CREATE OR REPLACE TEMPORARY VIEW a USING parquet OPTIONS (path 'x')", None, True),
        ("EXECUTE IMMEDIATE 'DROP VIEW a'", None, True),
        ("BEGIN DROP VIEW a; END", None, True),
        ("CREATE TEMPORARY FUNCTION f() RETURNS INT RETURN 1", "", True),
        ("CREATE FUNCTION f() RETURNS INT RETURN 1", "", True),
        ("DROP FUNCTION f", None, True),
        ("SET VAR a = 1", "", False),
        ("INSERT INTO a VALUES (1)", "", True),
        ("CREATE TABLE a USING parquet AS SELECT 1", "", True),
    ],
)
def test_statements(text: str, view: str | None, functions: bool) -> None:
    assert touched_view(sql(text)) == view
    assert may_change_functions(sql(text)) == functions


def test_requests_without_sql() -> None:
    plan = base_pb2.Plan()
    plan.command.create_dataframe_view.name = "A"
    assert touched_view(plan) == "a" and not may_change_functions(plan)
    plan.root.catalog.drop_temp_view.view_name = "B"
    assert touched_view(plan) == "b" and not may_change_functions(plan)
    plan.root.catalog.list_tables.db_name = "default"
    assert touched_view(plan) == ""
    plan.root.catalog.drop_view.view_name = "c"
    assert touched_view(plan) is None
    plan.root.range.end = 3
    assert touched_view(plan) == "" and not may_change_functions(plan)
    plan.command.register_function.function_name = "f"
    assert touched_view(plan) == "" and may_change_functions(plan)
    plan.command.write_operation.path = "x"
    assert touched_view(plan) == "" and not may_change_functions(plan)
    plan.compressed_operation.data = b"who knows"
    assert touched_view(plan) is None and may_change_functions(plan)
