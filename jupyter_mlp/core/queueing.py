"""Who may run now, of all jobs that want processes of one machine. A pure function; every job's supervisor asks it.

Jobs come in order of priority, then of submission. The first one that does not fit keeps what is free for itself, and
those behind it only fill the gap: they give it back as soon as it is enough for the first, and go on from their
checkpoint later. So the large are never delayed by the small, and nobody has to guess how long a job will take.

    4 processes      A A A .      running
    waiting          B B B B      first: does not fit
    behind it        C            fills the gap until A has ended
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

WAITS, FILLS, RUNS = "waits", "fills", "runs"


@dataclass(frozen=True)
class Ticket:
    """A job's place in the queue.

    Attributes:
        needs: processes. `order`: of submission. `state`: RUNS once it may run to its end, FILLS while it only fills a gap.
    """

    job: str
    needs: int
    priority: int
    order: int
    state: str = WAITS


def decided(tickets: Iterable[Ticket], capacity: int) -> dict[str, str]:
    """Return what every job may do now: run, fill a gap, or wait (a job that fills one and must wait gives it back)."""
    firm, others = _parted(tickets)
    states = dict.fromkeys((ticket.job for ticket in firm), RUNS)
    free, now = capacity - sum(_needs(ticket, capacity) for ticket in firm), RUNS
    for ticket in others:
        fits = _needs(ticket, capacity) <= free
        now = now if fits else FILLS  # behind the first that does not fit, all only fill
        states[ticket.job] = now if fits else WAITS
        free -= _needs(ticket, capacity) if fits else 0
    return states


def places(tickets: Iterable[Ticket], waiting: Collection[str]) -> dict[str, int]:
    """Return the place of each waiting job, from 1."""
    _, others = _parted(tickets)
    return {job: place for place, job in enumerate((ticket.job for ticket in others if ticket.job in waiting), 1)}


def _parted(tickets: Iterable[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    ordered = sorted(tickets, key=lambda ticket: (-ticket.priority, ticket.order))
    return [one for one in ordered if one.state == RUNS], [one for one in ordered if one.state != RUNS]


def _needs(ticket: Ticket, capacity: int) -> int:
    return min(ticket.needs, capacity)  # more processes than there is room for run alone
