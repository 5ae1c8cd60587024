"""What changes in the workspace, told to every open tab: one watcher a server, which costs next to nothing when nothing happens.

{"changed": "records"}                                something was begun, made or forgotten: read your lists again
{"changed": "endpoints"}                              an endpoint came, went, or serves others
{"changed": "requests", "name": "delays"}             an endpoint was asked
{"changed": "run", "id": ..., "text": ..., "share": ...}   a training got on
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.store import deployments, jobs
from jupyter_mlp.store.workspace import Workspace, current

_EVERY_S = 1.0
_LIVES_EVERY = 5  # looks: whether what is recorded as running still does

Message = dict[str, Any]


class Watch:
    """Tells listeners what changed, as long as there are any."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[str], None]] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Callable[[str], None]) -> None:
        """Tell `listener` every change from now on."""
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, listener: Callable[[str], None]) -> None:
        """Tell it nothing more; without listeners nothing is watched."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        look: Look | None = None
        try:
            while True:
                workspace = current()
                if look is None or look.workspace is not workspace:
                    look = Look(workspace)
                with contextlib.suppress(MLPError, OSError, sqlite3.Error):  # a broken workspace is said where it is asked
                    # A look takes microseconds, and a thread would cost more; what may take long goes to one.
                    for message in [*look.quick(), *(await asyncio.to_thread(look.slow) if look.is_due() else [])]:
                        self._tell(message)
                await asyncio.sleep(_EVERY_S)
        finally:
            if look is not None:
                look.close()

    def _tell(self, message: Message) -> None:
        text = json.dumps(message)
        for listener in list(self._listeners):
            listener(text)


class Look:
    """Compares a workspace with what it was at the look before."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._connection: sqlite3.Connection | None = None
        self._seen: dict[str, Any] = {}
        self._running: list[str] = []
        self._looks = 0
        self._records_changed = True

    def quick(self) -> Iterator[Message]:
        """Yield what a few looks at files tell."""
        self._looks += 1
        if self.workspace.database.path is not None and self._differs("records", self._version()):
            self._records_changed = True
            yield {"changed": "records"}
        for folder in sorted(self.workspace.endpoints.glob("*/wanted.json")):
            name = folder.parent.name
            logs = sorted((folder.parent / "requests").glob("current*.jsonl"))
            if self._differs(f"requests {name}", [_stamp(log) for log in logs]):
                yield {"changed": "requests", "name": name}
        for run in self._running:
            if self._differs(f"run {run}", _stamp(self.workspace.runs / run / "events.jsonl")):
                from jupyter_mlp.frontends.listings import progress

                yield {"changed": "run", "id": run, **progress(self.workspace, run)}

    def is_due(self) -> bool:
        """Whether it is time for the look that may take long."""
        return self._records_changed or self._looks % _LIVES_EVERY == 1

    def slow(self) -> list[Message]:
        """Return what only the database or the processes tell; what was killed is recorded as such on the way."""
        told: list[Message] = []
        self._records_changed = False
        activities = self.workspace.activities
        if self.workspace.database.path is None:  # a server: the newest record, and what is under way
            newest = [activity.seq for activity in activities.recent(limit=1)]
            if self._differs("records", (newest, [a.id for a in activities.recent(limit=50, state="running")])):
                told.append({"changed": "records"})
        running = [jobs.settled(self.workspace, one) for one in activities.recent(limit=50, state="running")]
        self._running = [one.id for one in running if one.kind == "train" and one.state == "running"]
        folders = [deployments.folder(self.workspace, name) for name in deployments.names(self.workspace)]
        if self._differs("endpoints", [(one.name, one.stamp(), one.running, one.actual()) for one in folders]):
            told.append({"changed": "endpoints"})
        return told

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _differs(self, name: str, value: Any) -> bool:
        """Whether it is another value than at the look before; the first look only remembers."""
        known = name in self._seen
        before, self._seen[name] = self._seen.get(name), value
        return known and before != value

    def _version(self) -> int | None:
        """A number that changes with every commit of any process, without reading a page of the database."""
        path = self.workspace.database.path
        if self._connection is None:
            if path is None or not path.exists():
                return None
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _stamp(path: Any) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
