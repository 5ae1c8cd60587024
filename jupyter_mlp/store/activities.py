"""The activity record: one writer and one reader for everything that was ever done in a workspace."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_mlp.core.entities import CANCELLED, FAILED, FINISHED, FORGOTTEN, RUNNING, Activity
from jupyter_mlp.core.errors import ConflictError, NotFoundError, nearest
from jupyter_mlp.core.identity import plain
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import counts, modes, shelf
from jupyter_mlp.store.activity_rows import INSERT, INSERT_ALONE, UPDATE, activity_of, columns, insert_edges, only_used
from jupyter_mlp.store.database import Connection, Database
from jupyter_mlp.store.processes import this_process

PROCESS = "process"  # fact of a running activity: which process does it
CELL_ID = "cell_id"  # another: which cell of the notebook, for those who show it there


@dataclass
class Draft:
    """An activity under way: add what it used, made and found out; the record is closed when the block ends.

    Attributes:
        lasting: facts that the record has when the block fails, too, when it has no others.
    """

    activity: Activity
    used: list[Ref] = field(default_factory=list)
    made: list[Ref] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    lasting: dict[str, Any] = field(default_factory=dict)


class Activities:
    """Reader and writer of activity records.

    Args:
        database: where they are kept.
        parent: records that can be read but are never written (a scratch workspace looks through to its origin).
        pins: "kind:name" -> version that a name without version means here (a pipeline's cut, a snapshot's inputs);
            what this process makes itself becomes the pinned version of its name.
    """

    def __init__(self, database: Database, parent: Activities | None = None, pins: Mapping[str, str] | None = None) -> None:
        self._database = database
        self._parent = parent
        self._pinned = pins is not None
        self.pins = dict(pins or {})
        self.session: list[str] = []  # ids of what this process did or reused, in order: what a snapshot ties together
        self.taken: list[Ref] = []  # exact versions that it took by name, without doing anything

    # -- writing

    def again(self, known: Activity, name: str | None = None, made: Sequence[Ref] | None = None) -> Activity:
        """Record that an earlier activity's answer was given again: what it made is the newest of its names; nothing is copied.

        Args:
            name, made: the answer under another name.
        """
        name, made = name or known.name, known.made if made is None else tuple(made)
        if (name, made) == (known.name, known.made) and self._is_newest(known):
            self.session.append(known.id)
            return known
        begun = _begun(new_id(), known.kind, name, known.key, known.used, known.parameters)
        new = begun._replace(state=FINISHED, made=made, facts=plain({**known.facts, "again": known.id}), ended_at=time.time())
        self._pin(made)
        with self._database.transaction(write=True) as connection:  # never running: its key may be, in another job
            return self._insert(connection, INSERT, new) or new

    def begin(
        self,
        kind: str,
        *,
        name: str | None = None,
        key: str | None = None,
        used: Sequence[Ref] = (),
        parameters: Mapping[str, Any] | None = None,
        activity_id: str | None = None,
    ) -> Activity:
        """Record that something began; it shows as running until `finish`, `fail` or `cancel`."""
        activity = _begun(activity_id or new_id(), kind, name, key, used, parameters)
        with self._database.transaction(write=True) as connection:
            begun = self._insert(connection, INSERT, activity)
        assert begun is not None, "without a conflict clause an insert returns its row or raises"
        return begun

    def claim(
        self,
        kind: str,
        *,
        key: str,
        name: str | None = None,
        used: Sequence[Ref] = (),
        parameters: Mapping[str, Any] | None = None,
        activity_id: str | None = None,
        reuse: bool = True,
    ) -> tuple[Activity, bool]:
        """Record that something began, unless the same runs already (or, with `reuse`, has finished); return it, and whether it is ours.

        The database decides (a unique index over the keys of what runs), so of any number of processes that ask at the
        same moment exactly one gets it, and all others get that one's record.
        """
        activity = _begun(activity_id or new_id(), kind, name, key, used, parameters)
        states = f"('{RUNNING}', '{FINISHED}')" if reuse else f"('{RUNNING}')"
        same = f"WHERE kind = :kind AND identity = :key AND state IN {states} ORDER BY state, seq DESC LIMIT 1"
        while True:
            with self._database.transaction(write=True) as connection:
                found = self._read(connection, same, {"kind": kind, "key": key})
                if found:
                    return found[0], False
                begun = self._insert(connection, INSERT_ALONE, activity)
            if begun is not None:
                return begun, True

    def _pin(self, made: Sequence[Ref]) -> None:
        if self._pinned:
            self.pins.update({f"{ref.kind}:{ref.name}": ref.version for ref in made if ref.version})

    def _insert(self, connection: Connection, sql: str, activity: Activity) -> Activity | None:
        rows = connection.execute(sql, columns(activity))
        if not rows:
            return None
        seq = int(rows[0]["seq"])
        _still_known(connection, activity)
        insert_edges(connection, activity.id, "used", activity.used, seq)
        counts.before_made(connection, activity.made)
        insert_edges(connection, activity.id, "made", activity.made, seq)
        recorded = activity._replace(seq=seq)
        shelf.put(connection, recorded)
        self.session.append(activity.id)
        return recorded

    def finish(
        self, activity: Activity, *, made: Sequence[Ref] = (), used: Sequence[Ref] = (), facts: Mapping[str, Any] | None = None
    ) -> Activity:
        """Close a running activity; what it made becomes the newest of its names. A closed one stays as it is."""
        return self._close(activity, FINISHED, made, used, facts or {}, None)

    def fail(self, activity: Activity, error: str, facts: Mapping[str, Any] | None = None) -> Activity:
        """Close a running activity as failed: nothing it began is registered."""
        return self._close(activity, FAILED, (), (), facts or {}, error)

    def cancel(self, activity: Activity, facts: Mapping[str, Any] | None = None) -> Activity:
        """Close a running activity as cancelled."""
        return self._close(activity, CANCELLED, (), (), facts or {}, None)

    @contextmanager
    def recording(
        self,
        kind: str,
        *,
        name: str | None = None,
        key: str | None = None,
        used: Sequence[Ref] = (),
        parameters: Mapping[str, Any] | None = None,
        activity_id: str | None = None,
    ) -> Iterator[Draft]:
        """Record the block as one activity: finished with what the draft holds, failed with what lasts if it raises.

        Example:
            >>> with activities.recording("evaluate", used=[model]) as draft:
            ...     draft.facts["mae"] = 12.5
        """
        draft = Draft(self.begin(kind, name=name, key=key, used=used, parameters=parameters, activity_id=activity_id))
        try:
            yield draft
        except KeyboardInterrupt:
            self.cancel(draft.activity)
            raise
        except BaseException as error:
            self.fail(draft.activity, str(error) or type(error).__name__, draft.lasting)
            raise
        draft.activity = self.finish(draft.activity, made=draft.made, used=draft.used, facts={**draft.lasting, **draft.facts})

    def _close(
        self, activity: Activity, state: str, made: Sequence[Ref], used: Sequence[Ref], facts: Mapping[str, Any], error: str | None
    ) -> Activity:
        more = [ref for ref in dict.fromkeys(used) if ref not in activity.used]
        closed = activity._replace(
            state=state,
            used=(*activity.used, *more),
            made=tuple(made),
            facts=plain(dict(facts)),
            error=error,
            ended_at=time.time(),
        )
        if state == FINISHED:
            self._pin(made)
        with self._database.transaction(write=True) as connection:
            if not connection.execute(UPDATE, columns(closed)):  # another process closed it: its word stands
                return self._read(connection, "WHERE id = :id", {"id": activity.id})[0]
            _still_known(connection, closed)
            insert_edges(connection, closed.id, "used", more, closed.seq, start=len(activity.used))
            counts.before_made(connection, closed.made)
            insert_edges(connection, closed.id, "made", closed.made, closed.seq)
            shelf.put(connection, closed)
        return closed

    # -- reading

    def get(self, activity_id: str) -> Activity:
        """Return the activity of that id.

        Raises:
            NotFoundError: there is none.
        """
        found = self._select("WHERE id = :id", {"id": activity_id})
        if found:
            return found[0]
        if self._parent:
            return self._parent.get(activity_id)
        raise NotFoundError(f"No activity {activity_id} in this workspace.", "mlp status lists the newest.")

    def many(self, ids: Sequence[str]) -> dict[str, Activity]:
        """Return the activities of these ids, those that there are, by id."""
        named = {f"one{at}": one for at, one in enumerate(ids)}
        marks = ", ".join(f":{name}" for name in named)
        return {found.id: found for found in self._select(f"WHERE id IN ({marks})", named)} if named else {}

    def complete(self, kind: str, end: str) -> str:
        """Return the id of that kind of activity that ends like this (run:1b60285c); the text itself where none or several do."""
        clause = "WHERE kind = :kind AND id LIKE :end LIMIT 2"
        found = self._select(clause, {"kind": kind, "end": f"%-{end}"}) if re.fullmatch("[0-9a-f]{8}", end) else []
        return found[0].id if len(found) == 1 else end

    def find(self, key: str, state: str = FINISHED) -> Activity | None:
        """Return the newest activity of that key that is in that state, or None."""
        found = self._select("WHERE identity = :key AND state = :state ORDER BY seq DESC LIMIT 1", {"key": key, "state": state})
        if found:
            return found[0]
        return self._parent.find(key, state) if self._parent else None

    def latest(self, kind: str, name: str) -> Activity | None:
        """Return the newest finished activity of that kind and name, or None."""
        clause = "WHERE kind = :kind AND name = :name AND state = 'finished' ORDER BY seq DESC LIMIT 1"
        found = self._select(clause, {"kind": kind, "name": name})
        if found:
            return found[0]
        return self._parent.latest(kind, name) if self._parent else None

    def maker(self, ref: Ref) -> Activity | None:
        """Return the activity that made exactly `ref`, or None."""
        found = self._by_edge("made", ref, limit=1)
        if found:
            return found[0]
        return self._parent.maker(ref) if self._parent else None

    def users(self, ref: Ref, limit: int = 1000) -> list[Activity]:
        """Return the activities that used exactly `ref`, newest first."""
        return self._by_edge("used", ref, limit)

    def newest(self, kind: str, name: str) -> Ref | None:
        """Return the exact reference that `kind:name` means now, or None."""
        pinned = self.pins.get(f"{kind}:{name}")
        if pinned is not None:
            return Ref(kind, name, pinned or None)
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT version FROM edges WHERE role = 'made' AND kind = :kind AND name = :name ORDER BY seq DESC LIMIT 1",
                {"kind": kind, "name": name},
            )
        if rows:
            return Ref(kind, name, rows[0]["version"] or None)
        return self._parent.newest(kind, name) if self._parent else None

    def resolve(self, ref: Ref) -> Ref:
        """Return the exact reference that `ref` means, completing a version given by its first characters.

        Raises:
            NotFoundError: nothing of that name was made here; the message names the nearest.
        """
        exact = self.newest(ref.kind, ref.name) if ref.version is None else self._complete(ref)
        if exact is None:
            known = self.names(ref.kind)
            raise NotFoundError(
                f"No {ref.kind} {str(ref).split(':', 1)[1]} in this workspace.",
                nearest(ref.name, known) or f"There is no {ref.kind} yet; mlp status shows what there is.",
            )
        return exact

    def names(self, kind: str) -> list[str]:
        """Return the names of all things of a kind, sorted."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT DISTINCT name FROM edges WHERE role = 'made' AND kind = :kind", {"kind": kind})
        mine = {str(row["name"]) for row in rows}
        return sorted(mine | set(self._parent.names(kind) if self._parent else ()))

    def count(self, kind: str) -> int:
        """Return how many names of a kind there are; takes as long for many as for few."""
        if self._parent is not None:
            return len(self.names(kind))
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT names FROM counts WHERE kind = :kind", {"kind": kind})
        return int(rows[0]["names"]) if rows else 0

    def versions(self, kind: str, name: str, limit: int = 100) -> list[Ref]:
        """Return the exact references made under a name, newest first."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT version FROM edges WHERE role = 'made' AND kind = :kind AND name = :name ORDER BY seq DESC LIMIT :limit",
                {"kind": kind, "name": name, "limit": limit},
            )
        return [Ref(kind, name, row["version"] or None) for row in rows]

    def recent(self, kinds: Iterable[str] = (), limit: int = 20, state: str | None = None) -> list[Activity]:
        """Return the newest activities, of some kinds and in some state only where given."""
        wanted = {f"kind{i}": kind for i, kind in enumerate(kinds)}
        where = [f"kind IN ({', '.join(':' + name for name in wanted)})"] if wanted else []
        where += ["state = :state"] if state else []
        clause = ("WHERE " + " AND ".join(where)) if where else ""
        return self._select(f"{clause} ORDER BY seq DESC LIMIT :limit", {**wanted, "state": state, "limit": limit})

    def _is_newest(self, known: Activity) -> bool:
        if self._parent is not None:
            return False  # a scratch workspace has its own record of everything that happened in it
        with self._database.moment():
            things = all(self.newest(ref.kind, ref.name) == ref for ref in known.made if ref.version)
            newest = self.latest(known.kind, known.name or "")
            return things and newest is not None and newest.made == known.made

    def _complete(self, ref: Ref) -> Ref | None:
        if self.maker(ref) is not None:
            return ref
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT DISTINCT version FROM edges WHERE role = 'made' AND kind = :kind AND name = :name AND version LIKE :start LIMIT 2",
                {"kind": ref.kind, "name": ref.name, "start": (ref.version or "").replace("%", "") + "%"},
            )
        versions = [row["version"] for row in rows]
        if len(versions) == 1 and len(ref.version or "") >= 4:
            return Ref(ref.kind, ref.name, versions[0])
        return self._parent._complete(ref) if self._parent else None

    def _by_edge(self, role: str, ref: Ref, limit: int) -> list[Activity]:
        clause = (
            "WHERE id IN (SELECT activity FROM edges WHERE role = :role AND kind = :kind AND name = :name AND version = :version "
            "ORDER BY seq DESC LIMIT :limit) ORDER BY seq DESC"
        )
        parameters = {"role": role, "kind": ref.kind, "name": ref.name, "version": ref.version or "", "limit": limit}
        return self._select(clause, parameters)

    def _select(self, clause: str, parameters: Mapping[str, Any]) -> list[Activity]:
        with self._database.transaction() as connection:
            return self._read(connection, clause, parameters)

    @staticmethod
    def _read(connection: Connection, clause: str, parameters: Mapping[str, Any]) -> list[Activity]:
        rows = connection.execute(f"SELECT * FROM activities {clause}", only_used(clause, parameters))
        ids = {f"id{i}": row["id"] for i, row in enumerate(rows)}
        edges: dict[tuple[str, str], list[Ref]] = {}
        if ids:
            marks = ", ".join(f":{name}" for name in ids)
            for edge in connection.execute(f"SELECT * FROM edges WHERE activity IN ({marks}) ORDER BY position", ids):
                edges.setdefault((edge["activity"], edge["role"]), []).append(Ref(edge["kind"], edge["name"], edge["version"] or None))
        return [activity_of(row, edges) for row in rows]


def new_id() -> str:
    """Return a fresh id that sorts roughly by time: 20261124-142530-1f3c9a2b."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + os.urandom(4).hex()


def _begun(
    activity_id: str, kind: str, name: str | None, key: str | None, used: Sequence[Ref], parameters: Mapping[str, Any] | None
) -> Activity:
    import getpass

    return Activity(
        id=activity_id,
        kind=kind,
        name=name,
        key=key,
        used=tuple(used),
        parameters=plain(dict(parameters or {})),
        facts={PROCESS: this_process().to_dict(), CELL_ID: modes.running_cell_id()},
        started_at=time.time(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        notebook=os.environ.get("MLP_NOTEBOOK") or os.environ.get("JPY_SESSION_NAME"),
        cell=_running_cell(),
    )


def _still_known(connection: Connection, activity: Activity) -> None:
    """An answer given again must not bring back what was forgotten while it was looked up: its bytes may be gone."""
    again = activity.facts.get("again")
    found = connection.execute("SELECT state FROM activities WHERE id = :id", {"id": again}) if again else []
    if found and found[0]["state"] == FORGOTTEN:
        raise ConflictError(f"The answer {again} was forgotten this moment.", "Run it again: it is computed anew.")


def _running_cell() -> str | None:
    shell = modes.running_shell()
    return str(modes.running_cell(shell)) if shell is not None else None
