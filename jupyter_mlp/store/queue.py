"""The queue of one machine: decided from the records by each job's supervisor, under a lock. There is no daemon.

runs/queue.lock          held while somebody decides
runs/<id>/ticket.json    what a job needs and what it may do now; its place follows from all tickets
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jupyter_mlp.core import queueing
from jupyter_mlp.core.entities import RUNNING
from jupyter_mlp.core.errors import NotFoundError
from jupyter_mlp.core.queueing import WAITS, Ticket
from jupyter_mlp.store import jobs
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.workspace import Workspace

_TICKET = "ticket.json"
_SILENT = "silent"  # on the ticket of a job that has not asked yet
_PATIENCE_S = 10.0


class Queue:
    """A job's view of the queue of its machine.

    Args:
        capacity: processes that the machine runs at the same time: one a GPU, or one a core, unless the settings say another number.
        devices: how many GPUs there are, or cores; as many as `capacity` where it is not told.
    """

    def __init__(self, workspace: Workspace, run: RunFolder, capacity: int, devices: int = 0) -> None:
        self._workspace, self._run, self._capacity, self._count = workspace, run, capacity, devices or capacity
        self._id, self._spec = run.path.name, run.read("spec.json") or {}

    def ask(self) -> tuple[str, int]:
        """Return what this job may do now, written down before anybody else can ask, and its place among those who wait.

        Room that is to be given back is written down as free by `leave`, once it is; until then nobody is let into it.
        """
        held = self._locked()
        try:
            written = self._run.read(_TICKET)
            told = written or _ticket(self._spec)
            mine = Ticket(self._id, int(self._spec["gpus"]), int(self._spec["priority"]), self._order(), told["state"])
            others = [found for found in _tickets(self._workspace) if found[0].job != self._id]
            tickets = [mine, *(ticket for ticket, _ in others)]
            states = queueing.decided(tickets, self._capacity)
            used = sum(min(ticket.needs, self._capacity) for ticket in tickets[1:] if ticket.state != WAITS)
            if told["state"] == WAITS and used + min(mine.needs, self._capacity) > self._capacity:
                states[self._id] = WAITS  # those who have to make room for it are still there
            state = states[self._id]
            leaves = state == WAITS and told["state"] != WAITS
            taken = Counter(device for ticket, devices in others if ticket.state != WAITS for device in devices)
            devices = [] if state == WAITS else told["devices"] or self._devices(mine.needs, taken)
            now = {**_ticket(self._spec), "state": state, "devices": devices}
            if not leaves and now != written:
                self._run.write(_TICKET, now)
            return state, queueing.places(tickets, [job for job, now in states.items() if now == WAITS]).get(self._id, 0)
        finally:
            os.close(held)

    def leave(self) -> None:
        """Say that none of this job's processes runs any more; it waits for its next turn."""
        told = self._run.read(_TICKET)
        if told is not None and told["state"] != WAITS:
            self._run.write(_TICKET, {**told, "state": WAITS, "devices": []})

    @property
    def state(self) -> str:
        """What this job was told last, by whichever supervisor of it asked."""
        return str((self._run.read(_TICKET) or {}).get("state", WAITS))

    @property
    def devices(self) -> list[int]:
        """The numbers of the GPUs, or of the cores, that are this job's while it may run."""
        return list((self._run.read(_TICKET) or {}).get("devices", ()))

    def _devices(self, needs: int, taken: Mapping[int, int]) -> list[int]:
        """Return the least used ones: the setting `processes` may let more of them run than there are devices, or fewer."""
        return sorted(range(max(self._count, needs)), key=lambda number: (taken.get(number, 0), number))[:needs]

    def _order(self) -> int:
        return self._workspace.activities.get(self._id).seq

    def _locked(self) -> int:
        lease = Lease(self._workspace.runs / "queue.lock")
        deadline = time.monotonic() + _PATIENCE_S
        while (held := lease.take()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{lease.path} was held for {_PATIENCE_S:.0f} s")
        return held


def enter(run: RunFolder) -> None:
    """Take a job's place before its supervisor is there to ask: of two that begin together, the one submitted first has the room."""
    if run.read(_TICKET) is None:
        run.write(_TICKET, {**_ticket(run.read("spec.json") or {}), _SILENT: True})


def is_waiting(folder: RunFolder) -> bool:
    """Whether a job that has not ended waits for processes."""
    told = folder.read(_TICKET) or {}
    return told.get("state") == WAITS and _SILENT not in told


def places(workspace: Workspace) -> dict[str, int]:
    """Return the place of every job that waits for processes of this machine, from 1."""
    tickets = [ticket for ticket, _ in _tickets(workspace)]
    waiting = [ticket.job for ticket in tickets if ticket.state == WAITS and is_waiting(jobs.folder_of(workspace, ticket.job))]
    return queueing.places(tickets, waiting)


def taken(workspace: Workspace) -> list[int]:
    """Return the numbers of the GPUs, or of the cores, that jobs have on this machine now; one that several have, several times."""
    return [device for ticket, devices in _tickets(workspace) if ticket.state != WAITS for device in devices]


def _ticket(spec: Mapping[str, Any]) -> dict[str, Any]:
    here = {"host": socket.gethostname(), "needs": int(spec.get("gpus", 1)), "priority": int(spec.get("priority", 0))}
    return {**here, "state": WAITS, "devices": []}


def _tickets(workspace: Workspace) -> list[tuple[Ticket, list[int]]]:
    """Return tickets and devices of all jobs on this machine that have not ended; one that was killed goes on by this look."""
    found = []
    for activity in workspace.activities.recent(["train"], limit=1000, state=RUNNING):
        try:
            folder = jobs.folder_of(workspace, activity.id)
        except NotFoundError:
            continue
        told = folder.read(_TICKET)
        if told is not None and told["host"] == socket.gethostname() and jobs.state_of(folder)[0] == RUNNING:
            ticket = Ticket(activity.id, int(told["needs"]), int(told["priority"]), activity.seq, told["state"])
            found.append((ticket, told["devices"]))
    return found
