"""Schedules as the sidebar lists them: when each runs next, what became of its last runs, and what they made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from jupyter_mlp.core import cron
from jupyter_mlp.store import schedules as stored
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.schedules import Stored, StoredTick
from jupyter_mlp.store.shelf import words_of
from jupyter_mlp.store.workspace import Workspace

KIND = "schedule"
_TICKS = 5  # last runs told of each


def page(workspace: Workspace, limit: int, cursor: str = "") -> dict[str, Any]:
    """Return the schedules by name, those after the name `cursor`; `next` is the cursor of the next page."""
    known = [one for one in stored.every(workspace.database) if one.name > cursor]
    found = known[:limit]
    return {
        "kind": KIND,
        "rows": _rows(workspace, found),
        "next": found[-1].name if len(known) > limit else "",
        "at_work": Lease(workspace.root / "scheduler.lock").held,
    }


def search(workspace: Workspace, text: str, limit: int) -> list[dict[str, Any]]:
    """Return the schedules that have a word beginning with each word of `text`."""
    wanted = words_of(text)
    fits = [one for one in stored.every(workspace.database) if wanted and _has(words_of(one.name, _notebook(one)), wanted)]
    return _rows(workspace, fits[:limit])


def _has(words: list[str], wanted: list[str]) -> bool:
    return all(any(word.startswith(one) for word in words) for one in wanted)


def _rows(workspace: Workspace, found: Iterable[Stored]) -> list[dict[str, Any]]:
    return [_row(one, stored.recent(workspace.database, one.name, _TICKS)) for one in found]


def _row(one: Stored, ticks: list[StoredTick]) -> dict[str, Any]:
    spec = one.spec
    when = f"new version of {spec['on']}" if spec.get("on") else f"{spec['cron']}, {spec['tz']}"
    return {
        "ref": one.name,
        "short": one.name,
        "kind": KIND,
        "name": one.name,
        "title": one.name,
        "state": one.state,
        "error": None,
        "seconds": None,
        "at": one.created_at,
        "user": one.user,
        "host": "",
        "notebook": _notebook(one),
        "cell": "",
        "verb": KIND,
        "detail": when,
        "coming": _coming(one),
        "ticks": [_tick(tick) for tick in ticks],
        "given": {name: str(value) for name, value in spec.get("parameters", {}).items()},
        "retries": spec.get("retries", 0),
        "notify": len(spec.get("notify", ())),
    }


def _coming(one: Stored) -> float | None:
    if one.state != stored.ACTIVE or not one.spec.get("cron"):
        return None
    return next(cron.moments(str(one.spec["cron"]), str(one.spec["tz"]), time.time()), None)


def _tick(tick: StoredTick) -> dict[str, Any]:
    facts = tick.facts
    return {
        "tick": tick.tick,
        "due": tick.due,
        "state": tick.state,
        "attempt": tick.attempt,
        "seconds": tick.ended_at - tick.started_at if tick.ended_at and tick.started_at else None,
        "run": facts.get("run"),
        "snapshot": facts.get("snapshot"),
        "error": facts.get("error"),
    }


def _notebook(one: Stored) -> str:
    return str(one.spec.get("notebook", "")).rsplit("/", 1)[-1]
