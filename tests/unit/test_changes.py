"""One watcher tells what changed, and costs next to nothing when nothing does."""

from __future__ import annotations

import asyncio
import json
import time

from jupyter_mlp.frontends.changes import Look, Watch
from jupyter_mlp.store.workspace import Workspace, current


def _told(look: Look) -> list[str]:
    return [message["changed"] for message in [*look.quick(), *(look.slow() if look.is_due() else [])]]


def test_a_record_of_any_process_is_told_once(workspace: Workspace) -> None:
    look = Look(workspace)
    assert _told(look) == []
    begun = workspace.activities.begin("query", name="trips")  # makes the database, too
    assert _told(look) == ["records"]
    assert _told(look) == []
    Workspace(workspace.root).activities.finish(begun)
    assert _told(look) == ["records"]
    assert _told(look) == []
    look.close()


def test_the_watcher_tells_all_listeners_and_ends_with_the_last(workspace: Workspace) -> None:
    first: list[str] = []
    second: list[str] = []

    async def work() -> None:
        watch = Watch()
        one, two = first.append, second.append
        watch.add(one)
        watch.add(two)
        await asyncio.sleep(0.3)
        current().activities.begin("query", name="trips")
        await asyncio.sleep(2.5)
        watch.remove(one)
        watch.remove(two)
        assert watch._task is None

    asyncio.run(work())
    assert [json.loads(text) for text in first] == [{"changed": "records"}] == [json.loads(text) for text in second]


def test_a_quiet_workspace_costs_little(workspace: Workspace) -> None:
    workspace.activities.begin("query", name="trips")
    look = Look(workspace)
    for _ in range(3):
        _told(look)
    begun = time.process_time()
    for _ in range(20):
        _told(look)
    assert (time.process_time() - begun) / 20 < 0.01  # a look a second: under 1 % of a core, however many tabs there are
    look.close()
