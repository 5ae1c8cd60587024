"""Who refers to what: the records as a graph, and releasing what nobody refers to any more.

A record *holds* what it used while it runs, and afterwards as long as something it made still stands:

    table:lake.flights@1 <-used- query -made-> dataset:trips@a <-used- train -made-> run:..., model:...

Releasing a version turns its `made` edges into `forgotten` ones: no name and no key finds it any more, while the record
itself stays for whoever asks what was done here. The bytes go with the next garbage collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jupyter_mlp.core.entities import FINISHED, FORGOTTEN, RUNNING
from jupyter_mlp.core.errors import ConflictError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import counts, shelf
from jupyter_mlp.store.database import Connection, Row
from jupyter_mlp.store.workspace import Workspace

_PARTS = ("table", "compact")  # a new version of a table holds its rows itself: it does not need the version before it


@dataclass
class Record:
    """One activity as the housekeeping sees it: what it used, what of its products stands, what was released."""

    row: Row
    used: list[Ref] = field(default_factory=list)
    made: list[Ref] = field(default_factory=list)
    released: list[Ref] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The activity's id."""
        return str(self.row["id"])

    @property
    def kind(self) -> str:
        """What it did."""
        return str(self.row["kind"])

    @property
    def state(self) -> str:
        """How far it is."""
        return str(self.row["state"])

    @property
    def at(self) -> float:
        """When it ended, else when it began; seconds since 1970, UTC."""
        return float(self.row["ended_at"] or self.row["started_at"])

    @property
    def text(self) -> str:
        """Everything it says, as JSON text."""
        return f"{self.row['parameters']} {self.row['facts']}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What came out."""
        found: dict[str, Any] = json.loads(self.row["facts"])
        return found

    @property
    def holds(self) -> list[Ref]:
        """What must stay because of this record, beside its own products."""
        if self.state == RUNNING:
            cut = json.loads(self.row["parameters"]).get("cut") or {}  # of a pipeline: what its names mean while it runs
            return [*self.used, *(Ref.parse(f"{name}@{version}") for name, version in cut.items())]
        return [ref for ref in self.used if not _before_it(self.kind, ref, self.made)] if self.made else []


class Records:
    """All records of a workspace at one moment, oldest first."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    @cached_property
    def makers(self) -> dict[Ref, list[Record]]:
        """Which records made a thing that still stands."""
        return _grouped((ref, record) for record in self.records for ref in record.made)

    @cached_property
    def holders(self) -> dict[Ref, list[Record]]:
        """Which records hold a thing."""
        return _grouped((ref, record) for record in self.records for ref in record.holds)

    @cached_property
    def held(self) -> set[Ref]:
        """Everything that must stay: what stands by its own record, and what others hold."""
        return set(self.makers) | set(self.holders)

    @cached_property
    def released(self) -> set[Ref]:
        """What was released and nothing holds."""
        return {ref for record in self.records for ref in record.released} - self.held

    def describers(self, ref: Ref) -> list[Record]:
        """Return the records that say where a thing's bytes are: released ones only where none stands.

        A question asked again after its answer was forgotten has the same version, but its bytes are new ones.
        """
        return self.makers.get(ref) or self.releasers.get(ref, [])

    @cached_property
    def releasers(self) -> dict[Ref, list[Record]]:
        """Which records made a thing and released it; others may have made it again since."""
        return _grouped((ref, record) for record in self.records for ref in record.released)


def read(workspace: Workspace) -> Records:
    """Return the records of a workspace in one consistent look."""
    with workspace.database.transaction() as connection:
        rows = connection.execute(
            "SELECT seq, id, kind, name, state, parameters, facts, started_at, ended_at, username, notebook, cell "
            "FROM activities ORDER BY seq"
        )
        edges = connection.execute("SELECT activity, role, kind, name, version FROM edges ORDER BY seq, role, position")
    found = {str(row["id"]): Record(row) for row in rows}
    for edge in edges:
        record = found[edge["activity"]]
        {"used": record.used, "made": record.made}.get(edge["role"], record.released).append(_ref(edge))
    return Records(list(found.values()))


@dataclass(frozen=True)
class Dependant:
    """A record that needs something that is to be released, and what it made of it."""

    id: str
    kind: str
    state: str
    made: tuple[Ref, ...]

    @property
    def label(self) -> str:
        """Its products, else the record itself."""
        return ", ".join(ref.short for ref in self.made) or f"{self.kind} {self.id} ({self.state})"


def release(workspace: Workspace, refs: Sequence[Ref], cascade: bool = False) -> list[Ref]:
    """Release things, in one transaction, and return everything that was released: what was made together goes together.

    Args:
        cascade: release what was made of them too.

    Raises:
        ConflictError: something else refers to them; the message lists it. Nothing is released then.
    """
    with workspace.database.transaction(write=True) as connection:
        closed, going, needed = closure(connection, refs)
        running = [one for one in needed if one.state == RUNNING]
        if running or (needed and not cascade):
            raise _refused(refs, running or needed, running=bool(running))
        while needed:
            closed, going, needed = closure(connection, [*going, *(ref for one in needed for ref in one.made)])
            if any(one.state == RUNNING for one in needed):
                raise _refused(refs, needed, running=True)
        forget(connection, closed)
    return going


def closure(connection: Connection, refs: Iterable[Ref]) -> tuple[list[str], list[Ref], list[Dependant]]:
    """Return the activities that made `refs`, all that these made, and the other records that need any of it."""
    makers: dict[str, None] = {}
    going: dict[Ref, None] = {}
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref in going:
            continue
        going[ref] = None
        for row in connection.execute(f"{_BY_EDGE} AND e.role = 'made'", _named(ref)):
            makers[str(row["id"])] = None
            waiting += [_ref(edge) for edge in connection.execute(_MADE, {"id": row["id"]})]
    needed: dict[str, Dependant] = {}
    for ref in going:
        for row in connection.execute(f"{_BY_EDGE} AND e.role = 'used' AND a.state IN ('{RUNNING}', '{FINISHED}')", _named(ref)):
            made = tuple(_ref(edge) for edge in connection.execute(_MADE, {"id": row["id"]}))
            if row["id"] not in makers and (made or row["state"] == RUNNING) and not _before_it(row["kind"], ref, made):
                needed[row["id"]] = Dependant(row["id"], row["kind"], row["state"], made)
    needed |= {one.id: one for one in _in_a_cut(connection, going) if one.id not in makers}
    return list(makers), sorted(going), list(needed.values())


def _in_a_cut(connection: Connection, refs: Iterable[Ref]) -> Iterator[Dependant]:
    """Pipelines that run now and whose names mean one of these versions."""
    texts = {str(ref) for ref in refs}
    running = f"SELECT id, kind, state, parameters FROM activities WHERE state = '{RUNNING}' AND kind = 'pipeline'"
    for row in connection.execute(running):
        cut = json.loads(row["parameters"]).get("cut") or {}
        if any(f"{name}@{version}" in texts for name, version in cut.items()):
            yield Dependant(row["id"], row["kind"], row["state"], ())


def forget(connection: Connection, activities: Iterable[str]) -> None:
    """Release everything that some activities made."""
    for activity in activities:
        made = [_ref(edge) for edge in connection.execute(_MADE, {"id": activity})]
        connection.execute("UPDATE edges SET role = 'forgotten' WHERE activity = :id AND role = 'made'", {"id": activity})
        connection.execute("UPDATE activities SET state = :state WHERE id = :id", {"id": activity, "state": FORGOTTEN})
        counts.after_forgotten(connection, made)
        shelf.after_forgotten(connection, made)


_BY_EDGE = (
    "SELECT DISTINCT a.id, a.kind, a.state FROM edges e JOIN activities a ON a.id = e.activity "
    "WHERE e.kind = :kind AND e.name = :name AND e.version = :version"
)
_MADE = "SELECT kind, name, version FROM edges WHERE activity = :id AND role = 'made' ORDER BY position"


def _refused(refs: Sequence[Ref], needed: Sequence[Dependant], running: bool) -> ConflictError:
    shown = "; ".join(one.label for one in needed[:8]) + (f"; and {len(needed) - 8} more" if len(needed) > 8 else "")
    what = ", ".join(ref.short for ref in refs[:3]) + (" ..." if len(refs) > 3 else "")
    if running:
        return ConflictError(f"{what} cannot be forgotten: it is being used by {shown}.", "Wait for the end, or cancel it.")
    return ConflictError(
        f"{what} cannot be forgotten: {len(needed)} {'thing needs' if len(needed) == 1 else 'things need'} it: {shown}.",
        "Forget those first, or all together with --cascade (cascade=True).",
    )


def _before_it(kind: str, used: Ref, made: Iterable[Ref]) -> bool:
    if (kind, used.kind) == ("train", "run"):
        return True  # a run that goes on with another has copies of all that it takes from there
    return kind in _PARTS and used.kind == "table" and any(ref.kind == "table" and ref.name == used.name for ref in made)


def _named(ref: Ref) -> Mapping[str, str]:
    return {"kind": ref.kind, "name": ref.name, "version": ref.version or ""}


def _ref(edge: Row) -> Ref:
    return Ref(edge["kind"], edge["name"], edge["version"] or None)


def _grouped(pairs: Iterable[tuple[Ref, Record]]) -> dict[Ref, list[Record]]:
    found: dict[Ref, list[Record]] = {}
    for ref, record in pairs:
        found.setdefault(ref, []).append(record)
    return found


def sinks(records: Records) -> Iterator[Record]:
    """Yield the records whose products nobody else needs: for whose sake everything before them is kept."""
    for record in records.records:
        others = (one for ref in record.made for one in records.holders.get(ref, ()) if one is not record)
        if record.made and next(others, None) is None:
            yield record
