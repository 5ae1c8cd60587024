"""What breaks if this changes: everything made from a thing, or from one of its columns, and the cell that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.entities import FINISHED, RUNNING
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.references import KINDS, Ref, named
from jupyter_mlp.store import scheduled
from jupyter_mlp.store.database import Connection, Row
from jupyter_mlp.store.workspace import Workspace, current

_SHOWN = 60
_LOOKING = ("verify", "monitor", "pin")  # they look at things and make nothing that others build on
_ANSWERS = ("prediction", "probability")  # columns that a model adds to a dataset

Columns = frozenset[str] | None  # None: all of them, or a thing that has none


@dataclass(frozen=True)
class Dependant:
    """One thing that depends on what was asked about: a dataset, table, endpoint or schedule by its name, a model or run by its id.

    Attributes:
        ref: its newest version that depends on it. `versions`: how many do.
        columns: which of its columns do; None for all of them, or for a thing without columns.
        exact: False where it could not be told which columns matter, so that all are assumed to.
        notebook, cell: where that version was made. `code`: the query, or what was asked.
    """

    ref: Ref
    by: str
    columns: Columns
    exact: bool
    versions: int
    notebook: str | None
    cell: str | None
    code: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        columns = sorted(self.columns) if self.columns is not None else None
        return {**vars(self), "ref": str(self.ref), "columns": columns}


@dataclass(frozen=True, repr=False)
class Impact(Shown):
    """Everything downstream of a thing or of one of its columns."""

    root: Ref
    column: str | None
    dependants: tuple[Dependant, ...]

    @property
    def ref(self) -> str:
        """What was asked about."""
        return str(self.root)

    def to_dict(self) -> dict[str, Any]:
        """Return the dependants as JSON types, in the order in which they were made."""
        return {"kind": "impact", "ref": self.ref, "column": self.column, "dependants": [one.to_dict() for one in self.dependants]}

    def card(self) -> Card:
        """Return one row a dependant."""
        what = f"{self.root.short}{'.' + self.column if self.column else ''}"
        if not self.dependants:
            return Card(f"Nothing depends on {what}.")
        rows = [
            (one.ref.short, one.versions, _which(one), one.by, f"{one.notebook or '-'} [{one.cell or ' '}]", one.code)
            for one in self.dependants[:_SHOWN]
        ]
        more = f"the first {_SHOWN} of {len(self.dependants)}" if len(rows) < len(self.dependants) else ""
        kinds = {kind: sum(one.ref.kind == kind for one in self.dependants) for kind in KINDS}
        facts = [(f"{kind}s", count) for kind, count in kinds.items() if count]
        unsure = any(not one.exact for one in self.dependants)
        notes = ["* it cannot be told which columns matter, so all are assumed to"] if unsure else []
        title = f"{len(self.dependants)} {'thing depends' if len(self.dependants) == 1 else 'things depend'} on {what}"
        columns = ["dependant", "versions", "columns", "by", "notebook [cell]", "code"]
        return Card(title, facts, [Table(columns, rows, more)], notes=notes)


def impact(what: str | Shown) -> Impact:
    """Return everything that depends on a table, a dataset or one of their columns, or on any other thing.

    Args:
        what: `lake.flights`, `lake.flights.dep_delay`, `dataset:trips.hour`, `model:1f3c`; with @version, that one only.

    Raises:
        NotFoundError: there is no such thing or column here.

    Example:
        >>> mlp.impact("lake.flights.dep_delay").dependants[0].ref
        Ref(kind='dataset', name='trips', version='1f3c...')
    """
    workspace = current()
    with workspace.database.transaction() as connection:
        look = _Look(connection)
        root, column = _asked(workspace, look, named(what))
        start = [root] if root.version or root.kind not in ("table", "dataset", "endpoint") else look.versions(root)
        found = _spread(workspace, look, start, frozenset([column]) if column else None)
    return Impact(root, column, (*_by_name(found), *_schedules(workspace, [] if column else [root], found)))


@dataclass
class _Made:
    """A version that depends on it, the activity that made it, and how."""

    ref: Ref
    row: Row
    columns: Columns
    exact: bool


@dataclass
class _Look:
    """The records, each read once."""

    connection: Connection
    _rows: dict[str, Row] = field(default_factory=dict)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _edges: dict[str, tuple[list[Ref], list[Ref]]] = field(default_factory=dict)

    def users(self, ref: Ref) -> list[Row]:
        """The activities that used a version and still stand."""
        rows = self.connection.execute(_USERS, {"kind": ref.kind, "name": ref.name, "version": ref.version or ""})
        for row in rows:
            self._rows.setdefault(row["id"], row)
        return [self._rows[row["id"]] for row in rows if row["state"] in (FINISHED, RUNNING) and row["kind"] not in _LOOKING]

    def versions(self, ref: Ref) -> list[Ref]:
        """Every version of a name that was made or read here."""
        rows = self.connection.execute(
            "SELECT DISTINCT version FROM edges WHERE kind = :kind AND name = :name", {"kind": ref.kind, "name": ref.name}
        )
        return [Ref(ref.kind, ref.name, row["version"] or None) for row in rows]

    def maker(self, ref: Ref) -> Row | None:
        """The activity that made a version."""
        rows = self.connection.execute(_MAKER, {"kind": ref.kind, "name": ref.name, "version": ref.version or ""})
        return rows[0] if rows else None

    def facts(self, row: Row) -> dict[str, Any]:
        """What came out of an activity."""
        if row["id"] not in self._facts:
            self._facts[row["id"]] = json.loads(row["facts"])
        return self._facts[row["id"]]

    def edges(self, row: Row) -> tuple[list[Ref], list[Ref]]:
        """What an activity used and made."""
        if row["id"] not in self._edges:
            used: list[Ref] = []
            made: list[Ref] = []
            for edge in self.connection.execute(_EDGES, {"id": row["id"]}):
                {"used": used, "made": made}.get(edge["role"], []).append(Ref(edge["kind"], edge["name"], edge["version"] or None))
            self._edges[row["id"]] = (used, made)
        return self._edges[row["id"]]


_ROW = "a.id, a.seq, a.kind, a.name, a.state, a.facts, a.parameters, a.notebook, a.cell"
_WHERE = "WHERE e.kind = :kind AND e.name = :name AND e.version = :version AND e.role ="
_USERS = f"SELECT DISTINCT {_ROW} FROM edges e JOIN activities a ON a.id = e.activity {_WHERE} 'used'"
_MAKER = f"SELECT {_ROW} FROM edges e JOIN activities a ON a.id = e.activity {_WHERE} 'made' ORDER BY a.seq DESC LIMIT 1"
_EDGES = "SELECT role, kind, name, version FROM edges WHERE activity = :id ORDER BY position"


def _spread(workspace: Workspace, look: _Look, start: Iterable[Ref], columns: Columns) -> list[_Made]:
    """Follow the columns from version to version until nothing new is reached."""
    reached: dict[Ref, Columns] = dict.fromkeys(start, columns)
    made: dict[tuple[str, Ref], _Made] = {}
    waiting = list(reached)
    while waiting:
        ref = waiting.pop()
        for row in look.users(ref):
            for product, hit, exact in _products(workspace, look, row, ref, reached[ref]):
                known = made.get((row["id"], product))
                found = _Made(product, row, _both(known.columns if known else frozenset(), hit), exact and (known is None or known.exact))
                made[row["id"], product] = found
                if product not in reached or _both(reached[product], hit) != reached[product]:
                    reached[product] = _both(reached.get(product, frozenset()), hit)
                    waiting.append(product)
    return sorted(made.values(), key=lambda one: one.row["seq"])


def _products(workspace: Workspace, look: _Look, row: Row, used: Ref, columns: Columns) -> Iterator[tuple[Ref, Columns, bool]]:
    """What of an activity's products depends on some columns of one thing that it used: (product, its columns, exact)."""
    made = look.edges(row)[1] or ([Ref("run", row["id"])] if row["kind"] == "train" else [])
    hit, exact = _hit(workspace, look, row, used, columns)
    if hit is not None and not hit:
        return
    for product in made:
        if product.kind in ("dataset", "table"):
            yield product, hit, exact
        else:
            yield product, None, exact
        if product.kind == "run":
            yield from ((other, None, exact) for other in made if other.kind == "model")


def _hit(workspace: Workspace, look: _Look, row: Row, used: Ref, columns: Columns) -> tuple[Columns, bool]:
    """The columns of the result that depend on some columns of one input: empty for none, None for all; and whether it is sure."""
    kind, facts = row["kind"], look.facts(row)
    if columns is None and used.kind not in ("dataset", "table", "model"):
        return None, True
    if kind == "query":
        return _of_query(facts, used, columns)
    if kind in ("table", "compact") and columns is not None:
        mine = {str(name).lower() for name, _ in facts.get("columns", ())}
        return (columns & mine if mine else columns), True
    if kind in ("train", "evaluate", "explain", "predict") and used.kind in ("dataset", "table", "model"):
        return _of_model(workspace, look, row, used, columns)
    return None, columns is None or kind in ("snapshot", "deploy")


def _of_query(facts: Mapping[str, Any], used: Ref, columns: Columns) -> tuple[Columns, bool]:
    from jupyter_mlp.core.column_lineage import Lineage

    told = facts.get("lineage")
    if not told:
        return None, columns is None
    return frozenset(Lineage.from_dict(told).affected(str(used), set(columns) if columns is not None else None)), True


def _of_model(workspace: Workspace, look: _Look, row: Row, used: Ref, columns: Columns) -> tuple[Columns, bool]:
    parameters = json.loads(row["parameters"])
    things = [*look.edges(row)[0], *look.edges(row)[1]]
    read = _columns_of_models(workspace, [ref.name for ref in things if ref.kind == "model"])
    if row["kind"] == "predict":
        touched = used.kind == "model" or columns is None or read is None or bool(columns & read)
        passed = frozenset() if used.kind == "model" else columns if columns is None else columns - set(_ANSWERS)
        return (None if passed is None else passed | (frozenset(_ANSWERS) if touched else frozenset())), read is not None
    if columns is None or used.kind == "model":
        return None, True
    if read is None:
        return None, False
    wanted = read | {str(parameters[name]).lower() for name in ("target", "by") if parameters.get(name)}
    return (None if columns & wanted else frozenset()), True


def _columns_of_models(workspace: Workspace, models: list[str]) -> frozenset[str] | None:
    """The columns that models read, their targets among them; None where there is no model, or the files of one are not there."""
    found = [_card(str(workspace.find("models", model, "model.json"))) for model in models]
    return frozenset().union(*(one for one in found if one)) if found and None not in found else None


@lru_cache(maxsize=4096)
def _card(path: str) -> frozenset[str] | None:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        names = [column["name"] for column in told["signature"]["inputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return frozenset(str(name).lower() for name in [*names, told.get("target")] if name)


def _by_name(made: Iterable[_Made]) -> Iterator[Dependant]:
    """One entry a name: versions of a dataset, table or endpoint are one thing."""
    groups: dict[tuple[str, str], list[_Made]] = {}
    for one in made:
        groups.setdefault((one.ref.kind, one.ref.name), []).append(one)
    for group in groups.values():
        newest = group[-1]
        columns: Columns = frozenset()
        for one in group:
            columns = _both(columns, one.columns)
        versions = len({one.ref for one in group})
        exact = all(one.exact for one in group)
        row = newest.row
        yield Dependant(newest.ref, row["kind"], columns, exact, versions, row["notebook"], row["cell"], _code(row))


def _schedules(workspace: Workspace, asked: list[Ref], found: Sequence[_Made]) -> Iterator[Dependant]:
    """Schedules that wait for the thing or for what depends on it, or whose notebook made such a thing."""
    refs, notebooks = [*asked, *(one.ref for one in found)], [one.row["notebook"] for one in found]
    for one in scheduled.standing_on(workspace.database, refs, notebooks):
        notebook = str(one.spec["notebook"])
        yield Dependant(Ref(scheduled.KIND, one.name), scheduled.KIND, None, True, 1, notebook, None, scheduled.when(one.spec))


def _both(first: Columns, second: Columns) -> Columns:
    return None if first is None or second is None else first | second


def _which(one: Dependant) -> str:
    text = ", ".join(sorted(one.columns)) if one.columns is not None else "all" if one.ref.kind in ("dataset", "table") else "-"
    return text if one.exact else f"{text} *"


def _code(row: Row) -> str:
    parameters = json.loads(row["parameters"])
    text = str(parameters.get("sql") or parameters.get("model") or parameters.get("source") or row["name"] or "")
    return " ".join(text.split())[:120]


def _asked(workspace: Workspace, look: _Look, what: str) -> tuple[Ref, str | None]:
    """Read `lake.flights.dep_delay`, `dataset:trips@1f3c.hour` and the like: the thing, and the column where one is named."""
    text, at, version = what.strip().partition("@")
    version, dot, column = version.partition(".")
    kind, colon, name = text.rpartition(":")
    parts = name.split(".")
    if not colon:
        kind = _kind_of(look, parts)
    if kind not in KINDS:
        raise InvalidInputError(f"{what!r} names nothing that can have dependants.", "Write it like lake.flights.dep_delay or trips.hour.")
    own = 2 if kind == "table" and len(parts) > 1 else 1
    if kind in ("table", "dataset") and len(parts) > own and not dot:
        parts, column = parts[:own], ".".join(parts[own:])
    full = ".".join(parts)
    scheduled.check_not_asked(Ref(kind, full))
    if kind == "table" and len(parts) == 1:
        full = f"lake.{full}"
    ref = _known(workspace, look, Ref(kind, full, version if at else None))
    if column:
        _has_column(workspace, look, ref, column)
    return ref, column.lower() or None


def _kind_of(look: _Look, parts: list[str]) -> str:
    """A name alone: a dataset where one is called so, else a table."""
    return "dataset" if look.versions(Ref("dataset", parts[0])) else "table"


def _known(workspace: Workspace, look: _Look, ref: Ref) -> Ref:
    if ref.version is None and ref.kind in ("table", "dataset", "endpoint"):
        if look.versions(ref) or (ref.kind == "table" and workspace.lake.current(ref.name)):
            return ref
    elif ref.kind == "table" and ref in look.versions(ref):
        return ref
    elif ref.kind == "run":
        return Ref("run", workspace.activities.complete("train", ref.name))
    elif ref.kind == "model":
        from jupyter_mlp.store import registry

        return Ref("model", registry.load(workspace, str(ref)).uuid)
    return workspace.activities.resolve(ref)


def _has_column(workspace: Workspace, look: _Look, ref: Ref, column: str) -> None:
    names = {name.lower() for one in ([ref] if ref.version else look.versions(ref)) for name in _columns_of(workspace, look, one)}
    if names and column.lower() not in names:
        raise NotFoundError(f"{ref.short} has no column {column}.", nearest(column.lower(), names))


def _columns_of(workspace: Workspace, look: _Look, ref: Ref) -> list[str]:
    """The columns of a version as far as its record tells them; a table that others wrote is asked itself."""
    row = look.maker(ref)
    facts = look.facts(row) if row else {}
    if ref.kind == "table" and facts.get("columns"):
        return [str(name) for name, _ in facts["columns"]]
    if facts.get("lineage"):
        return list(facts["lineage"]["columns"])
    if ref.kind == "table" and ref.version:
        try:
            return list(workspace.lake.schema(ref.name, ref.version).names)
        except NotFoundError:
            return []
    return []
