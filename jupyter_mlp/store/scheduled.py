"""Which schedules stand on a thing: they wait for a table's new versions, or run a notebook whose cells use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import schedules
from jupyter_mlp.store.database import Database

KIND = "schedule"


def standing_on(database: Database, refs: Iterable[Ref], notebooks: Iterable[str | None]) -> list[schedules.Stored]:
    """Return the schedules that wait for one of these tables, or run one of these notebooks, by name."""
    tables = {ref.name for ref in refs if ref.kind == "table"}
    run = {str(path) for path in notebooks if path}
    return [one for one in schedules.every(database) if one.spec.get("on") in tables or one.spec["notebook"] in run]


def check_not_asked(ref: Ref) -> None:
    """See that the question is about something else: a schedule stands at the end of a lineage, and has no record as its maker.

    Raises:
        InvalidInputError: it is about a schedule; the hint says what tells of it.
    """
    if ref.kind == KIND:
        raise InvalidInputError(
            f"{ref.short} stands at the end: nothing is made from a schedule.",
            f"Its runs: mlp history {ref.name}. What it stands on: ask about the table or the dataset.",
        )


def when(spec: Mapping[str, Any]) -> str:
    """Return its moment as it was asked for."""
    return f"--on {spec['on']}" if spec.get("on") else f"--cron '{spec['cron']}'"
