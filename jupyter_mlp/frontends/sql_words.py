"""What may stand at the cursor of a `%%mlp_data` cell: tables, their columns, functions, keywords, and the cell's `:params`.

Nothing is run and nothing is asked of Spark: names come from the records and the lake, functions from the PySpark that is installed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import shelf
from jupyter_mlp.store.workspace import Workspace

_MOST_NAMES = 500  # of a kind
_HEAD = re.compile(r"\s*%%mlp_data\b")
_PARAM = re.compile(r"(?:-p|--params)[ =]\s*['\"]?([A-Za-z_]\w*)")
_WORD = re.compile(r"(?<![:\w]):?[\w.`]*$|:[\w]*$")
_BEFORE = re.compile(r"(\w+|[^\w\s])\s*$")
_SKIPPED = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)", re.DOTALL)
_SOURCES = re.compile(r"\b(?:from|join)\s+((?:[\w.`]+(?:\s+(?:as\s+)?\w+)?\s*,\s*)*[\w.`]+(?:\s+(?:as\s+)?\w+)?)", re.IGNORECASE)
_SOURCE = re.compile(r"([\w.`]+)(?:\s+(?:as\s+)?(\w+))?", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z_]\w*")
_NAMES_FOLLOW = frozenset({"from", "join", "table"})
_NO_ALIAS = frozenset(
    "on using where group order having limit union intersect except join inner left right full cross lateral window "
    "natural semi anti tablesample pivot unpivot version timestamp for cluster distribute sort qualify".split()
)
KEYWORDS = tuple(
    "SELECT DISTINCT FROM WHERE GROUP BY ORDER HAVING LIMIT JOIN LEFT RIGHT FULL INNER CROSS ANTI SEMI ON USING UNION ALL INTERSECT "
    "EXCEPT WITH AS CASE WHEN THEN ELSE END AND OR NOT IN IS NULL LIKE BETWEEN EXISTS OVER PARTITION ROWS RANGE CAST INTERVAL ASC DESC "
    "NULLS FIRST LAST LATERAL VIEW VALUES TABLESAMPLE PIVOT TRUE FALSE DATE TIMESTAMP".split()
)
# In `pyspark.sql.functions` for Python only.
_PYTHON_ONLY = frozenset("asc asc_nulls_first asc_nulls_last broadcast call_function call_udf col column desc desc_nulls_first".split()) | {
    "desc_nulls_last", "expr", "lit", "pandas_udf", "arrow_udf", "udf", "udtf", "unwrap_udt", "UserDefinedFunction", "PandasUDFType"
}  # fmt: skip


@dataclass(frozen=True)
class Word:
    """One thing that may stand there; `kind`: table, column, function, keyword or param."""

    text: str
    kind: str


def is_sql(cell: str) -> bool:
    """Whether a cell holds SQL below its first line."""
    return bool(_HEAD.match(cell))


def words(workspace: Workspace, cell: str, at: int) -> tuple[str, list[Word]]:
    r"""Return the beginning that stands before position `at` of a cell, and what it may become.

    Example:
        >>> words(workspace, "%%mlp_data few\nSELECT * FROM la", 31)
        ('la', [Word(text='lake.flights', kind='table')])
    """
    head, _, body = cell.partition("\n")
    before = body[: max(0, at - len(head) - 1)]
    if _inside_text(before):
        return "", []
    found = _WORD.search(before)
    begun = found.group() if found else ""
    if begun.startswith(":"):
        return begun, _begin(begun, [Word(f":{name}", "param") for name in dict.fromkeys(_PARAM.findall(head))])
    last = _BEFORE.search(_without_texts(before[: len(before) - len(begun)]))
    previous = last.group(1).lower() if last else ""
    sources = _sources(body)
    if previous in _NAMES_FOLLOW or (previous == "," and _in_sources(before)):
        return begun, _begin(begun, [Word(name, "table") for name in names(workspace)])
    if "." in begun:
        return begun, _begin(begun, [*_qualified(workspace, begun, sources), *(Word(name, "table") for name in names(workspace))])
    # The same column of two tables is offered once, and next to them the tables' short names.
    offered = [Word(_quoted(one), "column") for source in dict.fromkeys(sources.values()) for one, _ in columns(workspace, source)]
    offered += [Word(alias, "table") for alias in sources]
    if begun:
        lower = begun.islower()
        offered += [Word(name if lower else name.upper(), "function") for name in functions()]
        offered += [Word(one.lower() if lower else one, "keyword") for one in KEYWORDS]
    return begun, _begin(begun, list(dict.fromkeys(offered)))


def names(workspace: Workspace) -> list[str]:
    """Return what a query may read by name: tables and datasets, the newest few hundred of each."""
    return [*newest(workspace, "table"), *newest(workspace, "dataset")]


def newest(workspace: Workspace, kind: str) -> list[str]:
    """Return the newest names of a kind, by name; from the records, as front ends give up on TAB before the lake's catalog is loaded."""
    with workspace.database.transaction() as connection:
        return sorted(thing.name for thing in shelf.page(connection, kind, _MOST_NAMES))


def columns(workspace: Workspace, name: str) -> list[tuple[str, str]]:
    """Return the columns of a table or a dataset, with their types; none where nothing is known of it."""
    found = known(workspace, name)
    if found is None:
        return []
    ref, activity = found
    if ref.kind == "table":
        return [(str(column), str(kind)) for column, kind in activity.facts.get("columns", [])]
    preview = activity.facts.get("dataset", {}).get("preview", {})
    return [(str(one["name"]), str(one["type"])) for one in preview.get("columns", [])]


def known(workspace: Workspace, name: str) -> tuple[Ref, Activity] | None:
    """Return the newest version of the table or dataset of that name, and the activity that made it; None where there is none."""
    plain = name.replace("`", "")
    for kind in ("table", "dataset"):
        try:
            ref = workspace.activities.resolve(Ref(kind, plain))
            maker = workspace.activities.maker(ref)
        except MLPError:
            continue
        if maker is not None:
            return ref, maker
    return None


@cache
def functions() -> tuple[str, ...]:
    """Return the functions of Spark SQL, as the PySpark that is installed lists them; its file is read, not run."""
    spec = find_spec("pyspark")
    place = Path(str(spec.origin)).parent / "sql" / "functions" / "__init__.py" if spec and spec.origin else None
    if place is None or not place.is_file():
        return ()
    for node in ast.parse(place.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return tuple(sorted(set(ast.literal_eval(node.value)) - _PYTHON_ONLY))
    return ()


def _qualified(workspace: Workspace, begun: str, sources: dict[str, str]) -> list[Word]:
    owner = begun.rpartition(".")[0]
    source = sources.get(owner.lower(), owner)
    return [Word(f"{owner}.{_quoted(one)}", "column") for one, _ in columns(workspace, source)]


def _sources(body: str) -> dict[str, str]:
    """The tables that the whole text names after FROM and JOIN: by alias, else by the last part of their name."""
    found: dict[str, str] = {}
    for group in _SOURCES.findall(_without_texts(body)):
        for name, alias in _items(group):
            if name.lower() not in _NO_ALIAS:
                found[(alias or name.rpartition(".")[2]).lower().strip("`")] = name
    return found


def _items(group: str) -> Iterator[tuple[str, str]]:
    for item in group.split(","):
        read = _SOURCE.match(item.strip())
        if read:
            alias = read.group(2) or ""
            yield read.group(1), "" if alias.lower() in _NO_ALIAS or alias.lower() in ("as", "select") else alias


def _in_sources(before: str) -> bool:
    """Whether a comma before the cursor parts tables, not columns."""
    said = re.findall(r"\b(select|from|join|where|group|order|having|on)\b", _without_texts(before).lower())
    return bool(said) and said[-1] in ("from", "join")


def _inside_text(before: str) -> bool:
    """Whether the cursor is inside a literal or a comment, where no name is meant."""
    end = 0
    for found in _SKIPPED.finditer(before):
        end = found.end()
        text = found.group()
        closed = text.endswith("*/") if text.startswith("/*") else len(text) > 1 and text[-1] == text[0]
        if end == len(before) and not closed:
            return True
    return False


def _without_texts(sql: str) -> str:
    return _SKIPPED.sub(" ", sql)


def _begin(begun: str, offered: list[Word]) -> list[Word]:
    wanted = begun.lower().replace("`", "")
    return [one for one in offered if one.text.lower().replace("`", "").startswith(wanted) and one.text != begun]


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "`" + name.replace("`", "``") + "`"
