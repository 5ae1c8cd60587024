"""Schedules on the real scheduler: a notebook runs by itself, failures are tried again and told, killed schedulers lose nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from proof_ticks import prove
from test_repeat import write

import jupyter_mlp as mlp
from jupyter_mlp import scheduler
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store import schedules
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.processes import Process
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself is the scheduler: none is started beside it."""
    monkeypatch.setattr(scheduler, "ensure", lambda workspace: None)


def until(workspace: Workspace, done: Callable[[], bool], now: float, seconds: float = 90) -> None:
    """Be the scheduler at a moment, until something has happened."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, schedules.recent(workspace.database)
        scheduler.step(workspace, now, workers=2)
        time.sleep(0.1)


def states(workspace: Workspace, name: str) -> list[str]:
    return [tick.state for tick in schedules.recent(workspace.database, name, 100)]


def test_a_notebook_runs_by_itself(workspace: Workspace, tmp_path: Path, quiet: None, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "nightly.ipynb", "import os\nprint('month', month, os.environ['MLP_TICK'])", parameters="month: int = 1")
    assert cli.main(["schedule", str(path), "--cron", "0 3 * * *", "--tz", "Europe/Zurich", "-p", "month=2"]) == 0
    assert "0 3 * * * Europe/Zurich" in capsys.readouterr().out
    due = mlp.schedules("nightly").next
    assert len(due) == 3 and due[0].endswith(("T03:00+01:00", "T03:00+02:00"))
    now = time.time() + 2 * 86400
    until(workspace, lambda: states(workspace, "nightly") == ["finished", "skipped"], now)
    assert cli.main(["history", "nightly", "--json"]) == 0
    newest = json.loads(capsys.readouterr().out)["ticks"][0]
    assert newest["tick"] == due[1] and newest["attempt"] == 1
    assert f"month 2 {due[1]}" in Path(newest["facts"]["notebook"]).read_text()
    assert mlp.verify(newest["facts"]["snapshot"]).cells[0].verdict == "identical"
    scheduler.step(workspace, now, workers=2)
    assert states(workspace, "nightly") == ["finished", "skipped"], "what was run is not run again"


def test_failures_are_tried_again_told_once_and_so_is_recovery(workspace: Workspace, tmp_path: Path, quiet: None) -> None:
    told = tmp_path / "told"
    command = f"command:{sys.executable} -c \"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + chr(10))\""
    path = write(tmp_path / "shaky.ipynb", "open('ran', 'a').write('x')\nassert open('well').read() == 'yes'")
    (tmp_path / "well").write_text("no")
    mlp.schedule(path, cron="0 0 * * *", tz="UTC", retries=1, backoff=0, notify=[command])
    now = time.time() + 86400
    until(workspace, lambda: told.exists(), now)
    assert (tmp_path / "ran").read_text() == "xx" and states(workspace, "shaky") == ["failed"]
    (tmp_path / "well").write_text("yes")
    until(workspace, lambda: states(workspace, "shaky")[0] == "finished" and len(told.read_text().splitlines()) == 2, now + 86400)
    for _ in range(3):
        scheduler.step(workspace, now + 86400, workers=2)
    said = [json.loads(line) for line in told.read_text().splitlines()]
    assert [one["state"] for one in said] == ["failed", "recovered"] and "AssertionError" in said[0]["error"]


def test_a_run_that_takes_too_long_has_failed(workspace: Workspace, tmp_path: Path, quiet: None) -> None:
    path = write(tmp_path / "slow.ipynb", "import time\ntime.sleep(600)")
    mlp.schedule(path, cron="0 0 * * *", tz="UTC", timeout="4s")
    until(workspace, lambda: states(workspace, "slow") == ["failed"], time.time() + 86400)
    assert "was ended after 4 s" in schedules.recent(workspace.database)[0].facts["error"]


def test_a_new_version_of_a_table_is_a_tick(workspace: Workspace, tmp_path: Path, quiet: None) -> None:
    mlp.write_table("lake.t", pd.DataFrame({"a": [1]}))
    mlp.schedule(write(tmp_path / "follow.ipynb", "print(1)"), on="lake.t")
    scheduler.step(workspace, time.time(), workers=0)
    assert states(workspace, "follow") == []
    mlp.write_table("lake.t", pd.DataFrame({"a": [2]}))
    for _ in range(3):
        scheduler.step(workspace, time.time(), workers=0)
    assert [tick.tick for tick in schedules.recent(workspace.database)] == [f"lake.t@{workspace.lake.current('lake.t')}"]


def test_the_scheduler_lives_by_itself_and_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    mlp.schedule(write(tmp_path / "nightly.ipynb", "print(1)"), cron="* * * * *", tz="UTC")
    first: Process | None = None
    deadline = time.monotonic() + 30
    while not Lease(workspace.root / "scheduler.lock").held:  # mlp.schedules() would start another
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert scheduler.ensure(workspace) is None, "one on this machine is enough"
    import psutil

    for process in psutil.process_iter(["cmdline", "environ"]):
        found = process.info["environ"] or {}
        if "jupyter_mlp.scheduler" in (process.info["cmdline"] or []) and found.get("MLP_WORKSPACE") == str(workspace.root):
            first = Process(process.pid, process.create_time())
    assert first is not None and os.getsid(first.pid) == first.pid
    first.send(signal.SIGKILL)
    while first.alive:
        time.sleep(0.05)
    second = scheduler.ensure(workspace)
    assert second is not None
    mlp.schedules("nightly", remove=True)
    second.stop()


def test_what_cannot_work_is_refused(workspace: Workspace, tmp_path: Path, quiet: None) -> None:
    path = write(tmp_path / "nightly.ipynb", "print(1)", parameters="month: int = 1")
    for given, said in [
        ({}, "When does it run"),
        ({"cron": "0 3 * * *", "on": "lake.t"}, "When does it run"),
        ({"cron": "0 3 * *"}, "4 fields"),
        ({"cron": "0 3 * * *", "tz": "Mars/Olympus"}, "no time zone"),
        ({"cron": "0 3 * * *", "parameters": {"mont": 1}}, "no parameter mont"),
        ({"cron": "0 3 * * *", "catch_up": "some"}, "'some' cannot be run"),
        ({"cron": "0 3 * * *", "notify": ["ftp://x"]}, "Nobody can be told"),
        ({"cron": "0 3 * * *", "name": "../x"}, "no name for a schedule"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            mlp.schedule(path, **given)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="no schedule nightly"):
        mlp.schedules("nightly")
    assert mlp.schedules().all == ()


def test_killed_schedulers_lose_and_double_nothing() -> None:
    """The short form of `make proof ARGS=ticks`."""
    assert prove(ticks=60, count=3, kill_every_s=0.6, kill_runners=True, seed=3) == []
