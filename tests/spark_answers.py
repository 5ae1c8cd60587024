"""`make proof ARGS="spark_answers DIR"`: Spark's own SQL test files, asked through plain Spark and through us.

DIR holds Spark's `sql-tests/results` (the golden files, `*.sql.out`); they belong to Spark and are not part of this
repository. Where it also has `data/{onek,tenk,agg}.data` (PostgreSQL's regression data) those tables exist too.

Every statement of a file runs in one session. A view or table that a file makes is also written to the lake where the
lake can hold it, so that our side reads a pinned version of it while plain Spark reads the view. For every query:

    golden     plain Spark answers as the golden file says (schema, rows)
    same       ours gives the same rows, schema and error class as plain Spark
    inputs     what ours recorded as read is what plain Spark's analysed plan reads

Rows are compared in their order, too, where the query ends with an ORDER BY of columns that it gives: by those columns.

    python tests/proofs.py spark_answers DIR [--only cte.sql] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^-- !query\n(.*?)\n-- !query schema\n(.*?)\n-- !query output\n(.*?)(?=\n\n\n-- !query\n|\n*\Z)", re.S | re.M)
QUERY = re.compile(r"^(\s|\(|--[^\n]*\n|/\*.*?\*/)*(select|with|values|table|from|map|reduce)\b", re.I | re.S)
MADE = re.compile(r"^\s*create\s+(or\s+replace\s+)?(global\s+)?(temporary|temp)?\s*view\s+(if\s+not\s+exists\s+)?`?(\w+)`?[\s(]", re.I)
DROPPED = re.compile(r"^\s*drop\s+(view|table)\s+(if\s+exists\s+)?`?(\w+)`?\s*;?\s*$", re.I)
# Spark's test suite decides by the same look whether rows have an order.
NOT_DATA = re.compile(r"\b(explain|describe|show)\b", re.I)


@dataclass
class Count:
    """What was found in one file."""

    statements: int = 0
    queries: int = 0
    golden: int = 0
    golden_same: int = 0
    same: int = 0
    pinned: int = 0
    reused: int = 0
    differences: list[dict[str, str]] = field(default_factory=list)


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (statement, schema, output) of a golden file."""
    for found in BLOCK.finditer(path.read_text(encoding="utf-8") + "\n"):
        yield found[1], found[2], found[3]


def run_file(path: Path, data: Path, root: Path) -> Count:
    """Ask every query of one golden file both ways."""
    import jupyter_mlp as mlp
    from jupyter_mlp.store import workspace as workspaces

    folder = root / re.sub(r"\W+", "_", str(path))
    os.environ["MLP_WORKSPACE"] = str(folder)
    workspace = workspaces.current()
    session = workspace.engine.session
    session.conf.set("spark.sql.session.timeZone", "America/Los_Angeles")
    lake = Lake(mlp, workspace, session)
    lake.standard(data)
    count = Count()
    for sql, schema, output in blocks(path):
        count.statements += 1
        if not QUERY.match(sql) or re.search(r"\binsert\s+(into|overwrite)\b", sql, re.I):
            lake.statement(sql)
            continue
        count.queries += 1
        plain = ask_plain(session, sql)
        ours = ask_ours(mlp, sql, plain)
        golden = is_golden(plain, schema, output)
        same = differs(plain, ours, sql) or wrong_inputs(workspace, sql, ours, lake.made)
        count.golden += golden
        count.golden_same += golden and not same
        count.same += not same
        count.pinned += ours.get("pinned", False)
        if same:
            count.differences.append({"sql": sql, "why": same, "golden": str(golden), "file": path.name})
    lake.clean()
    shutil.rmtree(folder, ignore_errors=True)
    return count


class Lake:
    """Keeps the lake's tables beside what the file's statements make in Spark."""

    def __init__(self, mlp: Any, workspace: Any, session: Any) -> None:
        self.mlp, self.workspace, self.session = mlp, workspace, session
        self.made: set[str] = set()

    def standard(self, data: Path) -> None:
        """The tables that Spark's suite makes before the first file."""
        s = self.session
        s.sql("SELECT CAST(id AS INT) AS key, CAST(id AS STRING) AS value FROM range(1, 101)").createOrReplaceTempView("testdata")
        s.sql(
            "SELECT * FROM VALUES (array(1,2,3), array(array(1,2,3))), (array(2,3,4), array(array(2,3,4))) AS t(arraycol, nestedarraycol)"
        ).createOrReplaceTempView("arraydata")
        maps = ", ".join(
            "(map(" + ", ".join(f"{k}, '{c}{n}'" for k, c in zip(range(1, 7 - n), "abcde", strict=False)) + "))" for n in range(1, 6)
        )
        s.sql(f"SELECT * FROM VALUES {maps} AS t(mapcol)").createOrReplaceTempView("mapdata")
        names = ["testdata", "arraydata", "mapdata"]
        columns = (
            "unique1 INT, unique2 INT, two INT, four INT, ten INT, twenty INT, hundred INT, thousand INT, twothousand INT, "
            "fivethous INT, tenthous INT, odd INT, even INT, stringu1 STRING, stringu2 STRING, string4 STRING"
        )
        for file, name, schema in (("agg", "aggtest", "a INT, b FLOAT"), ("onek", "onek", columns), ("tenk", "tenk1", columns)):
            if (data / f"{file}.data").exists():
                s.read.csv(str(data / f"{file}.data"), sep="\t", schema=schema).createOrReplaceTempView(name)
                names.append(name)
        for name in names:
            self.keep(name)

    def statement(self, sql: str) -> None:
        """Run what is no query, and follow what it makes or drops."""
        try:
            self.session.sql(sql)
        except Exception:
            return
        made, dropped = MADE.match(sql), DROPPED.match(sql)
        if made and made[3]:
            self.keep(made[5].lower())
        elif dropped:
            self.forget(dropped[3].lower())

    def keep(self, name: str) -> None:
        """Write the view to the lake where the lake holds exactly its types."""
        from pyspark.sql import types as t

        held = (t.IntegerType, t.LongType, t.DoubleType, t.FloatType, t.BooleanType, t.StringType, t.DateType, t.DecimalType, t.BinaryType)

        def holds(kind: Any) -> bool:
            if isinstance(kind, t.ArrayType):
                return holds(kind.elementType)
            if isinstance(kind, t.MapType):
                return holds(kind.keyType) and holds(kind.valueType)
            return isinstance(kind, (*held, t.TimestampType, t.TimestampNTZType)) and type(kind) not in (t.CharType, t.VarcharType)

        self.forget(name)
        try:
            frame = self.session.table(name)
            fields = frame.schema.fields
            if fields and all(holds(f.dataType) and "COLLATE" not in f.dataType.simpleString().upper() and not f.metadata for f in fields):
                self.mlp.write_table(f"lake.{name}", frame)
                self.made.add(name)
        except Exception:
            self.forget(name)  # a lazy view that fails only when it is read

    def forget(self, name: str) -> None:
        """Take the table out of the lake again."""
        from jupyter_mlp import housekeeping

        if name in self.made:
            housekeeping._drop_table(self.workspace, f"lake.{name}")
            self.made.discard(name)

    def clean(self) -> None:
        """Leave the shared server as it was."""
        s = self.session
        for space in [row[0] for row in s.sql("SHOW DATABASES").collect()]:
            if space != "default":
                s.sql(f"DROP DATABASE IF EXISTS `{space}` CASCADE")
        s.sql("USE default")
        for row in s.sql("SHOW TABLES IN default").collect():
            if not row["isTemporary"]:
                for kind in ("TABLE", "VIEW"):
                    try:
                        s.sql(f"DROP {kind} IF EXISTS default.`{row['tableName']}`")
                    except Exception:
                        continue
        s.stop()


def ask_plain(session: Any, sql: str) -> dict[str, Any]:
    """Rows as Arrow, or the error class; what Arrow cannot carry is cast to text, as the stored result is."""
    try:
        frame = session.sql(sql)
        schema = frame.schema
        table = carried(frame).toArrow()
        values = list(zip(*map(_listed, table.columns), strict=True))
        return {"schema": schema, "rows": rows_of(table), "table": table, "values": values if schema.fields else [()] * len(values)}
    except Exception as error:
        return {"error": condition(error)}


def carried(frame: Any) -> Any:
    """The frame with unique names, and as text what neither Arrow nor a table holds."""
    from jupyter_mlp.backends.spark_types import storable

    return storable(frame)[0]


def ask_ours(mlp: Any, sql: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Rows, schema and inputs through `mlp.query`."""
    from jupyter_mlp.core.errors import MLPError

    try:
        found = mlp.query(sql, name="answer")
        table = found.to_arrow()
        return {"rows": rows_of(table), "table": table, "inputs": {ref.name for ref in found.inputs}, "pinned": bool(found.inputs)}
    except MLPError as error:
        return {"error": getattr(error, "condition", None) or f"ours: {error.message}", "message": error.message}
    except Exception as error:
        return {"error": f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"}


def condition(error: Exception) -> str:
    """Spark's error class."""
    from pyspark.errors import PySparkException

    if isinstance(error, PySparkException):
        return error.getCondition() or type(error).__name__
    return type(error).__name__


def rows_of(table: Any) -> list[str]:
    """Rows as text in which equal values are equal."""
    return [" | ".join(map(_text, row)) for row in zip(*map(_listed, table.columns), strict=True)] or [""] * table.num_rows


def _listed(column: Any) -> list[Any]:
    """Values of a column as Python has them; dates of years that it does not have as text."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [str(value) for value in column.to_numpy()]


def _text(value: Any) -> str:
    import datetime

    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.UTC).isoformat()
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_text, value)) + ")"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_text(v)}" for k, v in value.items()) + "}"
    return repr(value)


def differs(plain: dict[str, Any], ours: dict[str, Any], sql: str = "") -> str:
    """Return why the two answers differ; empty when they do not."""
    if "error" in plain or "error" in ours:
        one, other = plain.get("error", "an answer"), ours.get("error", "an answer")
        return "" if one == other else f"plain: {one}; ours: {other} {ours.get('message', '')[:300]}"
    if sorted(plain["rows"]) != sorted(ours["rows"]):
        gone, new = Counter(plain["rows"]) - Counter(ours["rows"]), Counter(ours["rows"]) - Counter(plain["rows"])
        return f"rows: plain has {list(gone)[:3]}, ours has {list(new)[:3]} ({len(plain['rows'])}/{len(ours['rows'])})"
    one, other = schema_of(plain["table"]), schema_of(ours["table"])
    if one != other:
        return f"schema: plain has {one}, ours has {other}"
    keys = order_of(sql, plain["table"].schema.names)
    one, other = (rows_of(found["table"].select(keys)) for found in (plain, ours))
    return "" if not keys or one == other else f"order by column {keys}: plain has {one[:5]}, ours has {other[:5]}"


def schema_of(table: Any) -> list[str]:
    """Names and types; the same instants have different zones, and what lists are called inside says nothing."""
    return [f"{field.name} {_kind(field.type)}" for field in table.schema]


def _kind(kind: Any) -> str:
    import pyarrow.types as is_

    if is_.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp without zone"
    if is_.is_list(kind) or is_.is_large_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    if is_.is_map(kind):
        return f"map<{_kind(kind.key_type)}, {_kind(kind.item_type)}>"
    if is_.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name} {_kind(field.type)}" for field in kind) + ">"
    return str(kind).removeprefix("large_")


def order_of(sql: str, names: list[str]) -> list[int]:
    """Return the places of the columns that the query's own ORDER BY begins with; rows of one key may come in any order."""
    import sqlglot

    try:
        order = sqlglot.parse_one(sql, read="spark").args.get("order")
    except sqlglot.errors.SqlglotError:
        return []
    found: list[int] = []
    lower = [name.lower() for name in names]
    for one in order.expressions if order else []:
        key = one.this
        if isinstance(key, sqlglot.exp.Literal) and key.is_int and 0 < int(key.this) <= len(names):
            found.append(int(key.this) - 1)
        elif isinstance(key, sqlglot.exp.Column) and not key.table and lower.count(key.name.lower()) == 1:
            found.append(lower.index(key.name.lower()))
        else:
            break
    return found


def wrong_inputs(workspace: Any, sql: str, ours: dict[str, Any], made: set[str]) -> str:
    """Return how the recorded inputs differ from the views in Spark's own analysed plan of what was sent."""
    from jupyter_mlp import data
    from jupyter_mlp.store import questions

    if "inputs" not in ours:
        return ""
    question = questions.ask(workspace, sql, {})
    text, _, names = data._pinned_text(workspace, question.query, question.pinned)
    try:
        plan = workspace.engine.session.sql(text)._explain_string(extended=True)
    except Exception as error:
        return f"no plan: {str(error)[:100]}"
    analysed = plan.split("== Analyzed Logical Plan ==")[-1].split("== Optimized Logical Plan ==")[0]
    read = {name.lower() for name in re.findall(r"View \(`([^`]+)`", analysed)}
    missed = read & made
    recorded = {view for view in names if view in read}
    if missed or len(recorded) != len(names):
        return f"inputs: not pinned {sorted(missed)}, recorded and not in the plan {sorted(set(names) - read)}"
    return ""


def is_golden(plain: dict[str, Any], schema: str, output: str) -> bool:
    """Whether plain Spark's answer is the golden one."""
    if "error" in plain:
        found = re.search(r'"errorClass"\s*:\s*"([^"]+)"', output)
        return bool(found and found[1] == plain["error"])
    if plain["schema"].simpleString() != schema:
        return False
    lines = sorted("\t".join(cells) for cells in _hive(plain))
    return sorted("\n".join(lines).splitlines()) == sorted(output.rstrip("\n").splitlines())


def _hive(plain: dict[str, Any]) -> Iterator[list[str]]:
    """Rows as Hive prints them, which is how golden files are written."""
    kinds = [field.dataType for field in plain["schema"].fields]
    for row in plain["values"]:
        yield [_cell(value, kind, True) for value, kind in zip(row, kinds, strict=True)] if kinds else [""]


def _cell(value: Any, kind: Any, top: bool = False) -> str:
    from pyspark.sql import types as t

    if value is None:
        return "NULL" if top else "null"
    if isinstance(kind, t.ArrayType):
        return "[" + ",".join(_cell(v, kind.elementType) for v in value) + "]"
    if isinstance(kind, t.MapType):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ",".join(f"{_cell(k, kind.keyType)}:{_cell(v, kind.valueType)}" for k, v in pairs) + "}"
    if isinstance(kind, t.StructType):
        return "{" + ",".join(f'"{f.name}":{_cell(value[f.name], f.dataType)}' for f in kind.fields) + "}"
    if isinstance(kind, t.BooleanType):
        return str(value).lower()
    if isinstance(kind, (t.DoubleType, t.FloatType)):
        return _java_float(value, isinstance(kind, t.FloatType))
    if isinstance(kind, t.BinaryType):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(kind, (t.TimestampType, t.TimestampNTZType)) and not isinstance(value, str):
        import zoneinfo

        local = value.astimezone(zoneinfo.ZoneInfo("America/Los_Angeles")) if value.tzinfo else value
        text = local.strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".")
        return text.zfill(len(text) + 4 - text.index("-"))
    if isinstance(kind, t.DecimalType):
        return format(value, "f")
    if isinstance(kind, t.StringType) and not top:
        return f'"{value}"'
    return str(value)


def _java_float(value: float, single: bool) -> str:
    """As Java prints it: 1.0E10, 0.001, 1.0E-4, NaN, Infinity."""
    import math

    import numpy as np

    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return np.format_float_positional(np.float32(value) if single else value, trim="0")
    mantissa, exponent = np.format_float_scientific(np.float32(value) if single else value, trim="0").split("e")
    return f"{mantissa}E{int(exponent)}"


def main() -> int:
    """Print a line a file and the sum; 1 when a query that is golden differs through us."""
    parser = argparse.ArgumentParser(description="Spark's SQL test files through plain Spark and through us.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--without", default="^$")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    total = Count()
    with tempfile.TemporaryDirectory() as root:
        for path in sorted(given.folder.rglob("*.sql.out")):
            if not re.search(given.only, str(path)) or re.search(given.without, str(path)):
                continue
            begun = time.perf_counter()
            count = run_file(path, given.folder / "data", Path(root))
            for name in ("statements", "queries", "golden", "golden_same", "same", "pinned"):
                setattr(total, name, getattr(total, name) + getattr(count, name))
            total.differences += count.differences
            if given.json:
                given.json.write_text(json.dumps(total.differences, indent=1, ensure_ascii=False))
            took = time.perf_counter() - begun
            print(
                f"{path.name:<45} {count.queries:>5} queries {count.golden:>5} golden {len(count.differences):>4} differ {took:6.1f} s",
                flush=True,
            )
    print(
        f"{total.statements} statements, {total.queries} queries ({total.pinned} on pinned tables): {total.same} same as plain Spark; "
        f"{total.golden} golden, {total.golden - total.golden_same} of them different"
    )
    return 1 if total.golden != total.golden_same else 0


if __name__ == "__main__":
    sys.exit(main())
