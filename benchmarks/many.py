"""Workspaces with a given number of records, as a busy team leaves them behind: mostly queries, every kind among them."""

from __future__ import annotations

import json
import random
from typing import Any

from jupyter_mlp.store import shelf
from jupyter_mlp.store.workspace import Workspace

_KINDS = ("query",) * 70 + ("table",) * 8 + ("train",) * 8 + ("evaluate",) * 6 + ("deploy",) * 3 + ("snapshot",) * 2 + ("failed",) * 3
_ACTIVITY = """
INSERT INTO activities (id, kind, name, identity, state, parameters, facts, error, started_at, ended_at, username, host, notebook, cell)
VALUES (:id, :kind, :name, :identity, :state, :parameters, :facts, NULL, :at, :at, 'ana', 'node', 'nightly.ipynb', '3')
"""
_EDGE = """
INSERT INTO edges (activity, role, position, kind, name, version, seq) VALUES (:activity, :role, :position, :kind, :name, :version, :seq)
"""


def fill(workspace: Workspace, count: int, seed: int = 7) -> None:
    """Add `count` records and their edges, and count and shelve the names as the migrations do."""
    chooser = random.Random(seed)
    with workspace.database.transaction(write=True) as connection:
        first = int(connection.execute("SELECT COALESCE(MAX(seq), 0) AS seq FROM activities")[0]["seq"]) + 1
        activities: list[dict[str, Any]] = []
        edges: list[dict[str, Any]] = []
        for number in range(count):
            kind = chooser.choice(_KINDS)
            one, made, used = _record(chooser, kind, f"20250101-000000-{number:08x}", number)
            activities.append(one)
            for role, things in (("used", used), ("made", made)):
                edges += [
                    {"activity": one["id"], "role": role, "position": at, "kind": k, "name": n, "version": v, "seq": first + number}
                    for at, (k, n, v) in enumerate(things)
                ]
        connection.execute_many(_ACTIVITY, activities)
        connection.execute_many(_EDGE, edges)
        connection.execute("DELETE FROM counts")
        connection.execute("INSERT INTO counts SELECT kind, COUNT(DISTINCT name) FROM edges WHERE role = 'made' GROUP BY kind")
        shelf.fill(connection)


def _record(chooser: random.Random, kind: str, identity: str, number: int) -> tuple[dict[str, Any], list[Any], list[Any]]:
    version = f"{chooser.getrandbits(128):032x}"
    table = ("table", f"lake.old_{chooser.randrange(20)}", str(number))
    dataset = ("dataset", f"old_{chooser.randrange(60)}", version)
    used, made, name = {
        "query": ([table], [dataset], dataset[1]),
        "table": ([], [table], table[1]),
        "train": ([dataset], [("run", identity, ""), ("model", version, "")], "Net"),
        "evaluate": ([("model", version, ""), dataset], [("evaluation", identity, "")], "Net"),
        "deploy": ([("model", version, "")], [("endpoint", f"end_{chooser.randrange(10)}", identity)], "end"),
        "snapshot": ([dataset, table], [("snapshot", version, "")], "notebook"),
        "failed": ([table], [], "old_1"),
    }[kind]
    facts = {"dataset": {"table": "datasets.old", "snapshot": str(number), "files": [f"lake/datasets/{version}/part-0.parquet"], "rows": 9}}
    return (
        {
            "id": identity,
            "kind": "query" if kind == "failed" else kind,
            "name": name,
            "identity": version,
            "state": "failed" if kind == "failed" else "finished",
            "parameters": json.dumps({"sql": "SELECT carrier, avg(delay) AS delay FROM lake.old GROUP BY carrier", "params": {}}),
            "facts": json.dumps(facts),
            "at": 1.7e9 + number,
        },
        made,
        used,
    )
