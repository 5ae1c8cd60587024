"""The proof that compares our answers with plain Spark's sees what it says that it sees."""

from __future__ import annotations

from typing import Any

import proofs
import pyarrow as pa
import pytest
import spark_answers


def answer(**columns: Any) -> dict[str, Any]:
    """What either side gives."""
    table = pa.table(columns)
    return {"table": table, "rows": spark_answers.rows_of(table)}


ONE = answer(n=pa.array([1, 2, 2]), t=["a", "b", "c"])


@pytest.mark.parametrize(
    ("other", "sql", "why"),
    [
        (answer(n=pa.array([1, 2, 2]), t=["a", "b", "c"]), "SELECT n, t FROM x ORDER BY n", ""),
        (answer(n=pa.array([2, 1, 2]), t=["b", "a", "c"]), "SELECT n, t FROM x", ""),
        (answer(n=pa.array([1, 2, 2]), t=["a", "c", "b"]), "SELECT n, t FROM x ORDER BY n", ""),
        (answer(n=pa.array([2, 1, 2]), t=["b", "a", "c"]), "SELECT n, t FROM (SELECT * FROM x ORDER BY n)", ""),
        (answer(n=pa.array([2, 1, 2]), t=["b", "a", "c"]), "SELECT n, t FROM x ORDER BY N", "order"),
        (answer(n=pa.array([2, 1, 2]), t=["b", "a", "c"]), "SELECT n, t FROM x UNION ALL SELECT 1, 'z' ORDER BY 1 DESC, t", "order"),
        (answer(n=pa.array([1, 2, 2], pa.int32()), t=["a", "b", "c"]), "SELECT n, t FROM x", "schema"),
        (answer(m=pa.array([1, 2, 2]), t=["a", "b", "c"]), "SELECT n, t FROM x", "schema"),
        (answer(n=pa.array([1, 2, 3]), t=["a", "b", "c"]), "SELECT n, t FROM x", "rows"),
        (answer(n=pa.array([1, 2, 2]), t=pa.array([0, 1, 400_000_000], pa.date32())), "SELECT n, t FROM x", "rows"),
    ],
)
def test_rows_schema_and_order_are_compared(other: dict[str, Any], sql: str, why: str) -> None:
    found = spark_answers.differs(ONE, other, sql)
    assert found.split(":")[0].split(" ")[0] == why


def test_the_same_instants_are_the_same_in_any_zone() -> None:
    one = answer(t=pa.array([0], pa.timestamp("us", "America/Los_Angeles")), of=pa.array([[1]], pa.large_list(pa.int64())))
    other = answer(t=pa.array([0], pa.timestamp("us", "UTC")), of=pa.array([[1]], pa.list_(pa.field("element", pa.int64()))))
    assert spark_answers.differs(one, other, "SELECT t FROM x ORDER BY t") == ""


def test_its_name_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    assert proofs.main("spark_answers") == 1  # it asks for its folder
    assert "the following arguments are required: folder" in capfd.readouterr().err
