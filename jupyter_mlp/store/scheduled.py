"""Which schedules stand on a thing: they wait for a table's new versions, or run a notebook whose cells use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import schedules
from jupyter_mlp.store.database import Database

KIND = "schedule"


def standing_on(database: Database, refs: Iterable[Ref], notebooks: Iterable[str | None]) -> list[schedules.Stored]:
    """Return the schedules that wait for one of these tables, or run one of these notebooks, by name."""
    tables = {ref.name for ref in refs if ref.kind == "table"}
    run = {str(path) for path in notebooks if path}
    return [one for one in schedules.every(database) if one.spec.get("on") in tables or one.spec["notebook"] in run]


def when(spec: Mapping[str, Any]) -> str:
    """Return its moment as it was asked for."""
    return f"--on {spec['on']}" if spec.get("on") else f"--cron '{spec['cron']}'"
