"""Schedules and ticks as recorded. The database decides who does a tick, so any number of schedulers may be at work.

    waiting --claim--> running --close--> finished | failed          skipped: planned, and not run, by the schedule's policy
       ^                  |
       +------ again -----+   it failed and may be tried again, or whoever did it was killed

Every claim has a number (`attempt`); who does not hold the newest number closes nothing.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.errors import NotFoundError, nearest
from jupyter_mlp.core.identity import canonical, plain
from jupyter_mlp.store.database import Connection, Database, Row
from jupyter_mlp.store.processes import Process, this_process

ACTIVE, PAUSED, REMOVED = "active", "paused", "removed"
WAITING, RUNNING, FINISHED, FAILED, SKIPPED = "waiting", "running", "finished", "failed", "skipped"
ASKED = "asked "  # begins the names of ticks that somebody asked for, beside those that fall due
LEASE_S = 120.0  # a runner on another machine that was silent for so long is taken for dead
_MOST_KILLS = 10  # attempts of one tick that were killed, after which it has failed


@dataclass(frozen=True)
class Stored:
    """A schedule; `spec` is what it was asked for, `seen` the last tick that was planned."""

    name: str
    state: str
    spec: Mapping[str, Any]
    seen: str
    created_at: float
    user: str


@dataclass(frozen=True)
class StoredTick:
    """One tick and what became of it; `due` in seconds since 1970."""

    schedule: str
    tick: str
    due: float
    state: str
    attempt: int
    failures: int
    not_before: float
    owner: str
    beat: float
    started_at: float | None
    ended_at: float | None
    told: int
    facts: Mapping[str, Any]


def save(database: Database, name: str, spec: Mapping[str, Any], seen: str, now: float) -> None:
    """Record a schedule, or what it is from now on; its ticks stay."""
    row = {"name": name, "spec": canonical(plain(dict(spec))), "seen": seen, "now": now, "user": os.environ.get("USER", "")}
    with database.transaction(write=True) as connection:
        connection.execute(
            "INSERT INTO schedules (name, state, spec, seen, created_at, username) VALUES (:name, 'active', :spec, :seen, :now, :user) "
            "ON CONFLICT (name) DO UPDATE SET state = 'active', spec = excluded.spec, seen = excluded.seen",
            row,
        )


def every(database: Database, states: Iterable[str] = (ACTIVE, PAUSED)) -> list[Stored]:
    """Return the schedules in these states, by name."""
    with database.transaction() as connection:
        rows = connection.execute("SELECT * FROM schedules ORDER BY name")
    return [_stored(row) for row in rows if row["state"] in states]


def get(database: Database, name: str) -> Stored:
    """Return a schedule.

    Raises:
        NotFoundError: there is none of that name.
    """
    found = every(database)
    for one in found:
        if one.name == name:
            return one
    known = [one.name for one in found]
    raise NotFoundError(f"There is no schedule {name}.", nearest(name, known) or "Make one: mlp schedule NOTEBOOK --cron '0 3 * * *'")


def set_state(database: Database, name: str, state: str) -> None:
    """Pause, resume or remove a schedule; ticks of a removed one that wait are skipped."""
    with database.transaction(write=True) as connection:
        connection.execute("UPDATE schedules SET state = :state WHERE name = :name", {"state": state, "name": name})
        if state == REMOVED:
            connection.execute("UPDATE ticks SET state = 'skipped' WHERE schedule = :name AND state = 'waiting'", {"name": name})


def plan(database: Database, schedule: Stored, ticks: Iterable[tuple[str, float, bool]], seen: str) -> None:
    """Record ticks (name, due, whether it is run), each once for ever, and how far was planned.

    Whoever looked at a schedule before another planned further comes too late: nothing is recorded, and its next look is newer.
    """
    with database.transaction(write=True) as connection:
        reached = {"name": schedule.name, "before": schedule.seen, "seen": seen}
        if not connection.execute("UPDATE schedules SET seen = :seen WHERE name = :name AND seen = :before RETURNING name", reached):
            return
        for tick, due, run in ticks:
            row = {"schedule": schedule.name, "tick": tick, "due": due, "state": WAITING if run else SKIPPED}
            connection.execute(
                "INSERT INTO ticks (schedule, tick, due, state, attempt, failures, not_before, owner, beat, told, facts) "
                "VALUES (:schedule, :tick, :due, :state, 0, 0, :due, '', 0, 0, '{}') ON CONFLICT DO NOTHING",
                row,
            )


def ask(database: Database, name: str, moment: str, now: float) -> None:
    """Record a tick that is due now because somebody asked for it; asked twice in one moment it is one."""
    row = {"schedule": name, "tick": f"{ASKED}{moment}", "due": now}
    with database.transaction(write=True) as connection:
        connection.execute(
            "INSERT INTO ticks (schedule, tick, due, state, attempt, failures, not_before, owner, beat, told, facts) "
            "VALUES (:schedule, :tick, :due, 'waiting', 0, 0, :due, '', 0, 0, '{}') ON CONFLICT DO NOTHING",
            row,
        )


def waiting(database: Database, now: float) -> list[StoredTick]:
    """Return the ticks that may run now, the oldest first; those of paused schedules wait on, unless somebody asked for them."""
    return _ticks(
        database,
        "state = 'waiting' AND not_before <= :now AND EXISTS (SELECT 1 FROM schedules WHERE schedules.name = ticks.schedule AND "
        "(schedules.state = 'active' OR (schedules.state = 'paused' AND ticks.tick LIKE :asked))) ORDER BY due LIMIT 200",
        {"now": now, "asked": f"{ASKED}%"},
    )


def running(database: Database) -> list[StoredTick]:
    """Return the ticks that are being done."""
    return _ticks(database, "state = 'running' ORDER BY due", {})


def recent(database: Database, schedule: str | None = None, limit: int = 20) -> list[StoredTick]:
    """Return the newest ticks, the newest first."""
    where = "schedule = :schedule AND " if schedule else ""
    return _ticks(database, f"{where} due > 0 ORDER BY due DESC LIMIT {int(limit)}", {"schedule": schedule} if schedule else {})


def claim(database: Database, tick: StoredTick, now: float, limit: int) -> int | None:
    """Take a waiting tick for this process; return the number of the attempt, or None when another took it or it must wait."""
    row = {"schedule": tick.schedule, "tick": tick.tick, "now": now, "owner": me(), "limit": limit}
    with database.transaction(write=True) as connection:
        _lock(connection, tick.schedule)
        found = connection.execute(
            "UPDATE ticks SET state = 'running', attempt = attempt + 1, owner = :owner, beat = :now, started_at = :now "
            "WHERE schedule = :schedule AND tick = :tick AND state = 'waiting' AND not_before <= :now AND :limit > "
            "(SELECT COUNT(*) FROM ticks AS other WHERE other.schedule = :schedule AND other.state = 'running') RETURNING attempt",
            row,
        )
    return int(found[0]["attempt"]) if found else None


def hold(database: Database, schedule: str, tick: str, attempt: int, now: float) -> bool:
    """Say that this process does the attempt, now and at every later call; False when it is no longer the newest."""
    row = {"schedule": schedule, "tick": tick, "attempt": attempt, "now": now, "owner": me()}
    with database.transaction(write=True) as connection:
        return bool(
            connection.execute(
                "UPDATE ticks SET owner = :owner, beat = :now WHERE schedule = :schedule AND tick = :tick AND attempt = :attempt "
                "AND state = 'running' RETURNING tick",
                row,
            )
        )


def close(database: Database, schedule: str, tick: str, attempt: int, state: str, now: float, facts: Mapping[str, Any]) -> bool:
    """Record how an attempt ended, for good; False when it is no longer the newest."""
    row = {"schedule": schedule, "tick": tick, "attempt": attempt, "state": state, "now": now, "facts": canonical(plain(dict(facts)))}
    with database.transaction(write=True) as connection:
        return bool(
            connection.execute(
                "UPDATE ticks SET state = :state, ended_at = :now, facts = :facts, owner = '' "
                "WHERE schedule = :schedule AND tick = :tick AND attempt = :attempt AND state = 'running' RETURNING tick",
                row,
            )
        )


def again(database: Database, tick: StoredTick, not_before: float, facts: Mapping[str, Any], failed: bool) -> bool:
    """Let an attempt be followed by another; False when it is no longer the newest. `failed`: the notebook did, nobody killed it."""
    row = {
        "schedule": tick.schedule,
        "tick": tick.tick,
        "attempt": tick.attempt,
        "not_before": not_before,
        "facts": canonical(plain(dict(facts))),
        "failed": int(failed),
    }
    with database.transaction(write=True) as connection:
        return bool(
            connection.execute(
                "UPDATE ticks SET state = 'waiting', not_before = :not_before, owner = '', facts = :facts, failures = failures + :failed "
                "WHERE schedule = :schedule AND tick = :tick AND attempt = :attempt AND state = 'running' RETURNING tick",
                row,
            )
        )


def recover(database: Database, now: float) -> list[StoredTick]:
    """Give back what somebody did who is dead, and return it; what was killed too often has failed."""
    found = []
    for tick in running(database):
        if _alive(tick, now):
            continue
        kills = tick.attempt - tick.failures
        said = {**tick.facts, "error": f"It was killed, attempt {tick.attempt}."}
        if kills < _MOST_KILLS:
            done = again(database, tick, now, said, failed=False)
        else:
            done = close(database, tick.schedule, tick.tick, tick.attempt, FAILED, now, said)
        if done:
            found.append(tick)
    return found


def untold(database: Database) -> list[StoredTick]:
    """Return the ticks with an outcome that nobody was told of yet, the oldest first."""
    return _ticks(database, "told <= 0 AND state IN ('finished', 'failed') ORDER BY due LIMIT 200", {})


def before(database: Database, tick: StoredTick) -> StoredTick | None:
    """Return the last tick of the same schedule before this one that was run."""
    row = {"schedule": tick.schedule, "due": tick.due}
    found = _ticks(database, "schedule = :schedule AND due < :due AND state IN ('finished', 'failed') ORDER BY due DESC LIMIT 1", row)
    return found[0] if found else None


def tell(database: Database, tick: StoredTick, told: int) -> bool:
    """Record that somebody was told of a tick, or how often it was tried; False when another scheduler was faster."""
    row = {"schedule": tick.schedule, "tick": tick.tick, "old": tick.told, "told": told}
    with database.transaction(write=True) as connection:
        return bool(
            connection.execute(
                "UPDATE ticks SET told = :told WHERE schedule = :schedule AND tick = :tick AND told = :old RETURNING tick", row
            )
        )


def me() -> str:
    """Return this process as an owner of ticks."""
    return canonical({"host": socket.gethostname(), **this_process().to_dict()})


def _alive(tick: StoredTick, now: float) -> bool:
    owner = json.loads(tick.owner) if tick.owner else None
    if owner is None:
        return False
    if owner["host"] == socket.gethostname():
        return Process.from_dict(owner).alive
    return now - tick.beat < LEASE_S


def _lock(connection: Connection, schedule: str) -> None:
    """On Postgres two claims of one schedule wait for each other, so that its limit holds; SQLite has one writer anyway."""
    connection.execute("UPDATE schedules SET name = name WHERE name = :name", {"name": schedule})


def _ticks(database: Database, where: str, parameters: Mapping[str, Any]) -> list[StoredTick]:
    with database.transaction() as connection:
        rows = connection.execute(f"SELECT * FROM ticks WHERE {where}", parameters)
    return [StoredTick(**{**row, "facts": json.loads(row["facts"])}) for row in rows]


def _stored(row: Row) -> Stored:
    return Stored(row["name"], row["state"], json.loads(row["spec"]), row["seen"], row["created_at"], row["username"])
