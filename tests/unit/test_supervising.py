"""What a supervisor may say and do when something goes wrong around a training that does not."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_mlp import training
from jupyter_mlp.backends import local, starting, supervisor
from jupyter_mlp.backends.ranks import Ranks
from jupyter_mlp.backends.supervisor import Supervisor
from jupyter_mlp.core.entities import FAILED, RUNNING
from jupyter_mlp.core.queueing import FILLS, RUNS, WAITS
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import jobs, queue
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.queue import Queue
from jupyter_mlp.store.workspace import Workspace


def job(workspace: Workspace, run_id: str = "one", **spec: Any) -> RunFolder:
    """A job that is recorded and written, and not started."""
    folder = RunFolder(workspace.runs / run_id)
    told = {"gpus": 1, "priority": 0, "retries": 1, "cluster": "local", "model": "m", "max_epochs": 1, **spec}
    folder.write("spec.json", told)
    workspace.activities.claim("train", name="Net", key=run_id, activity_id=run_id, reuse=False)
    return folder


def test_a_full_disk_while_a_model_is_registered_does_not_lose_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job(workspace)
    folder.write("handle.json", {"cluster": "local", "folder": str(folder.path)})
    (folder.path / "result").mkdir()

    def full(self: Supervisor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Supervisor, "run", full)
    held = Lease(folder.path / "supervisor.lock").take()
    assert held is not None
    supervisor.main(folder.path, workspace.root, held)
    assert folder.read("exit.json") is None, "the model is there, and the next look registers it"


def test_a_start_that_is_broken_off_takes_back_what_may_be_running(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(folder: RunFolder) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "start", broken_off)
    captured: Any = SimpleNamespace(source="", modules={}, class_name="Net", names=[])
    data: Any = SimpleNamespace(to_spec=dict, reference=Ref("dataset", "rows"))
    fitted: Any = SimpleNamespace(fitted=SimpleNamespace(to_dict=dict), reference=Ref("recipe", "rows"))
    with pytest.raises(KeyboardInterrupt):
        training._submit(workspace, captured, data, None, fitted, {"cluster": "local"}, "key", False)
    recorded = workspace.activities.recent(["train"])[0]
    assert recorded.state == FAILED and (workspace.runs / recorded.id / jobs.CANCEL).exists()


def test_who_does_not_get_to_ask_keeps_what_it_was_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(self: Queue) -> tuple[str, int]:
        raise TimeoutError

    monkeypatch.setattr(Queue, "ask", crowded)
    for number, state in enumerate((WAITS, FILLS, RUNS)):
        folder = job(workspace, f"job{number}")
        folder.write("ticket.json", {"state": state, "devices": []})
        gang, room = Ranks(folder, 1), Queue(workspace, folder, 1)
        assert Supervisor(folder, workspace, gang, room)._asked() is (state != WAITS)


def test_a_training_that_goes_on_is_not_failed_by_supervisors_that_do_not_come_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, started = job(workspace), []
    monkeypatch.setattr(local, "spawn", lambda *told: started.append(told))
    for _ in range(5):
        folder.say({"supervisor": "started", "at": 0})
    ranks = Lease(folder.path / "ranks.lock").take()
    assert ranks is not None
    assert [jobs.state_of(folder)[0] for _ in range(3)] == [RUNNING] * 3
    assert len(started) == 1, "the next start is given time"
    os.close(ranks)
    assert jobs.state_of(folder)[0] == RUNNING, "and may yet come up"
    monkeypatch.setattr(starting, "_BETWEEN_S", 0)
    state, why = jobs.state_of(folder)
    assert state == FAILED and "never came up" in why


def test_room_is_given_away_once_it_is_empty(workspace: Workspace) -> None:
    first, big, small = (Queue(workspace, job(workspace, name, gpus=gpus), 2) for name, gpus in (("a", 1), ("b", 2), ("c", 1)))
    for folder in (workspace.runs / name for name in "abc"):
        RunFolder(folder).write("handle.json", {"cluster": "local", "folder": str(folder)})
        assert Lease(folder / "supervisor.lock").take() is not None
    assert [first.ask(), big.ask(), small.ask()] == [(RUNS, 0), (WAITS, 1), (FILLS, 0)]
    RunFolder(workspace.runs / "a").end(FAILED)
    assert big.ask() == (WAITS, 1) and small.ask()[0] == WAITS  # it has to stop, and has not yet
    assert big.ask() == (WAITS, 1) and small.devices
    small.leave()
    assert small.ask()[0] == WAITS and big.ask() == (RUNS, 0)
    assert big.devices == [0, 1]


def test_who_was_submitted_first_has_the_room_though_another_asks_first(workspace: Workspace) -> None:
    early, late = (job(workspace, name) for name in "ab")
    for folder in (early, late):
        folder.write("handle.json", {"cluster": "local", "folder": str(folder.path)})
        assert Lease(folder.path / "supervisor.lock").take() is not None
        queue.enter(folder)
    assert not queue.is_waiting(early) and queue.places(workspace) == {}, "nobody waits who has not asked yet"
    assert Queue(workspace, late, 1).ask() == (WAITS, 1)
    assert Queue(workspace, early, 1).ask() == (RUNS, 0)
    assert queue.places(workspace) == {"b": 1}


def test_every_process_gets_a_device_of_its_own(workspace: Workspace) -> None:
    """However many processes the settings allow: more than there are devices, or fewer than one job needs."""

    def asked(name: str, needs: int, capacity: int) -> list[int]:
        mine = Queue(workspace, folder := job(workspace, name, gpus=needs), capacity, 2)
        folder.write("handle.json", {"cluster": "local", "folder": str(folder.path)})
        assert Lease(folder.path / "supervisor.lock").take() is not None
        assert mine.ask()[0] == RUNS
        return mine.devices

    assert [asked("a", 1, 4), asked("b", 2, 4), asked("c", 1, 4)] == [[0], [1, 0], [1]]
    for name in "abc":
        RunFolder(workspace.runs / name).end(FAILED)
    assert asked("d", 2, 1) == [0, 1]
