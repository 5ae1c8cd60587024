"""An activity as rows of two tables, and back: `activities`, and `edges` to what it used and made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.identity import canonical
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.database import Connection, Row

INSERT = """
INSERT INTO activities (id, kind, name, identity, state, parameters, facts, error, started_at, ended_at, username, host, notebook, cell)
VALUES (:id, :kind, :name, :identity, :state, :parameters, :facts, :error, :started_at, :ended_at, :username, :host, :notebook, :cell)
RETURNING seq
"""
INSERT_ALONE = INSERT.replace("RETURNING", "ON CONFLICT DO NOTHING RETURNING")
INSERT_EDGE = """
INSERT INTO edges (activity, role, position, kind, name, version, seq)
VALUES (:activity, :role, :position, :kind, :name, :version, :seq)
"""
UPDATE = """
UPDATE activities SET state = :state, facts = :facts, error = :error, ended_at = :ended_at
WHERE id = :id AND state = 'running'
RETURNING id
"""


def only_used(clause: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a clause names; some drivers refuse others."""
    return {name: value for name, value in parameters.items() if f":{name}" in clause}


def columns(activity: Activity) -> dict[str, Any]:
    """Return the row of an activity."""
    return {
        "id": activity.id,
        "kind": activity.kind,
        "name": activity.name,
        "identity": activity.key,
        "state": activity.state,
        "parameters": canonical(activity.parameters),
        "facts": canonical(activity.facts),
        "error": activity.error,
        "started_at": activity.started_at,
        "ended_at": activity.ended_at,
        "username": activity.user,
        "host": activity.host,
        "notebook": activity.notebook,
        "cell": activity.cell,
    }


def insert_edges(connection: Connection, activity_id: str, role: str, refs: Sequence[Ref], seq: int, start: int = 0) -> None:
    """Write what an activity used or made (`role`), in order, the first at place `start`."""
    rows = [
        {"activity": activity_id, "role": role, "position": i, "kind": r.kind, "name": r.name, "version": r.version or "", "seq": seq}
        for i, r in enumerate(refs, start)
    ]
    if rows:
        connection.execute_many(INSERT_EDGE, rows)


def activity_of(row: Row, edges: Mapping[tuple[str, str], list[Ref]]) -> Activity:
    """Return the activity of a row, with its edges by (activity id, role)."""
    return Activity(
        id=row["id"],
        kind=row["kind"],
        seq=row["seq"],
        name=row["name"],
        key=row["identity"],
        state=row["state"],
        used=tuple(edges.get((row["id"], "used"), ())),
        made=tuple(edges.get((row["id"], "made"), ())),
        parameters=json.loads(row["parameters"]),
        facts=json.loads(row["facts"]),
        error=row["error"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        user=row["username"],
        host=row["host"],
        notebook=row["notebook"],
        cell=row["cell"],
    )
