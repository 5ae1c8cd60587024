"""How many things of each kind there are, kept as the records are written: nobody counts a hundred thousand rows to look."""

from __future__ import annotations

from collections.abc import Iterable

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.database import Connection

_THERE = "SELECT 1 FROM edges WHERE role = 'made' AND kind = :kind AND name = :name LIMIT 1"
# Written first, so that of two writers of one new name the second waits here and then finds it there (Postgres).
_LOCK = "INSERT INTO counts (kind, names) VALUES (:kind, 0) ON CONFLICT (kind) DO UPDATE SET names = counts.names"
_CHANGE = "UPDATE counts SET names = names + :change WHERE kind = :kind"


def before_made(connection: Connection, refs: Iterable[Ref]) -> None:
    """Count the names that are new; called before the edges of what was made are written, in the same transaction."""
    for kind, name in dict.fromkeys((ref.kind, ref.name) for ref in refs):
        what = {"kind": kind, "name": name}
        if not connection.execute(_THERE, what):
            connection.execute(_LOCK, {"kind": kind})
            if not connection.execute(_THERE, what):
                connection.execute(_CHANGE, {"kind": kind, "change": 1})


def after_forgotten(connection: Connection, refs: Iterable[Ref]) -> None:
    """Count off the names that are gone; called after their last edge was released, in the same transaction."""
    for kind, name in dict.fromkeys((ref.kind, ref.name) for ref in refs):
        connection.execute(_LOCK, {"kind": kind})
        if not connection.execute(_THERE, {"kind": kind, "name": name}):
            connection.execute(_CHANGE, {"kind": kind, "change": -1})
