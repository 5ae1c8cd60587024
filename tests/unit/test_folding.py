"""Each line of the logs reaches the lake exactly once: whoever wrote it, however late, and whoever was killed when."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from jupyter_mlp.core.clusters import Cluster
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import experiment_tables, folding, keeper, segments
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.protocols import Refusal
from jupyter_mlp.serving.requests_log import Entry, Outcome, RequestLog
from jupyter_mlp.store import deployments
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

NAME = "lake.delays_predictions"
NOW = 1_700_000_000.0


@pytest.fixture
def folder(workspace: Workspace) -> EndpointFolder:
    """An endpoint that nobody serves."""
    found = deployments.folder(workspace, "delays")
    found.path.mkdir(parents=True)
    found.want({"workspace": str(workspace.root), "variants": [], "generation": 1})
    return found


def write(log: RequestLog, *told: tuple[str, float]) -> None:
    for name, at in told:
        log.add(Entry(at, name, 200, 0.1, "m", rows=1, instances=[{"x": 1.0}], predictions=[2.0]))
    log.flush()


def there(workspace: Workspace) -> list[str]:
    """The ids in the lake, sorted."""
    found = experiment_tables.read(workspace, Ref("table", NAME, workspace.lake.current(NAME)), ["id"])
    return sorted(found.column("id").to_pylist())


def test_a_line_that_is_older_than_the_last_fold_arrives_once(workspace: Workspace, folder: EndpointFolder) -> None:
    one, two = RequestLog(folder.requests, writer="one"), RequestLog(folder.requests, writer="two")
    write(one, ("a", NOW))
    experiment_tables.fold(workspace, folder)
    write(two, ("late", NOW - 0.3))
    write(one, ("clock stepped back", NOW - 3600), ("b", NOW))
    for _ in range(3):
        experiment_tables.fold(workspace, folder)
    assert there(workspace) == ["a", "b", "clock stepped back", "late"]


def test_closing_a_file_changes_nothing_and_half_a_line_waits_for_its_end(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests, file_bytes=400)
    for number in range(12):
        write(log, (f"{number:02d}", NOW))
        if number % 3 == 0:
            experiment_tables.fold(workspace, folder)
    write(log, ("x", NOW))
    current = folder.requests / "current.jsonl"
    whole = current.read_bytes()
    current.write_bytes(whole[:-5])
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == [f"{number:02d}" for number in range(12)]
    current.write_bytes(whole)
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == [f"{number:02d}" for number in range(12)] + ["x"]


def test_many_lines_become_several_versions_and_what_is_there_is_tidied(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests, file_bytes=400)
    names = [f"{number:03d}" for number in range(60)]
    for name in names:
        write(log, (name, NOW))
    assert len(segments.closed(folder.requests)) > segments.KEPT and folding.is_due(folder)
    experiment_tables.fold(workspace, folder, at_once=2000)
    assert there(workspace) == names
    assert len(list(folder.requests.glob("*.jsonl"))) == segments.KEPT and not folding.is_due(folder)
    assert len(list(workspace.lake.ancestors(NAME, str(workspace.lake.current(NAME))))) > 3
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == names


def test_a_file_of_a_process_that_ended_goes_without_a_line_lost(workspace: Workspace, folder: EndpointFolder) -> None:
    idle = RequestLog(folder.requests, writer="idle")
    write(idle, ("first", NOW))
    os.utime(folder.requests / "current.idle.jsonl", (1, 1))
    log = RequestLog(folder.requests, file_bytes=1)
    for number in range(segments.KEPT):
        write(log, (str(number), NOW))
    experiment_tables.fold(workspace, folder)
    assert not segments.currents(folder.requests), "it was closed, not removed"
    write(idle, ("second", NOW))
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == [*map(str, range(segments.KEPT)), "first", "second"]


def test_a_table_of_an_older_release_gets_only_what_it_lacks(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests)
    write(log, ("a", NOW), ("b", NOW + 1))
    experiment_tables.fold(workspace, folder)
    table = workspace.lake.open(NAME)
    assert table is not None
    with table.transaction() as change:
        change.remove_properties(experiment_tables.CURSOR)
    write(log, ("c", NOW - 1))
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == ["a", "b", "c"]


def test_folds_that_are_killed_anywhere_lose_nothing_and_double_nothing(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests, file_bytes=2000)
    argv = [sys.executable, "-c", KILLED, str(folder.path)]
    names: list[str] = []
    for point in ("before the commit", "after the commit", "before the note"):
        new = [f"{point} {number:02d}" for number in range(20)]
        write(log, *((name, NOW) for name in new))
        names += new
        assert subprocess.run([*argv, point]).returncode == -signal.SIGKILL, point
    assert subprocess.run([sys.executable, "-m", "jupyter_mlp.serving.folding", str(folder.path)]).returncode == 0
    assert there(workspace) == sorted(names)


# Kills itself on the way, as the machine would: where a line of the real code is reached for the second time of its kind.
KILLED = """
import os, signal, sys
from pathlib import Path
folder, point = sys.argv[1:]
names = {"before the commit": ("races", "commit", "call"), "after the commit": ("races", "commit", "return"),
         "before the note": ("segments", "note", "call")}
module, function, event = names[point]
def look(frame, kind, _):
    code = frame.f_code
    if kind == event and code.co_name == function and Path(code.co_filename).stem == module:
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(look)
from jupyter_mlp.serving import folding
folding.main(Path(folder))
"""


def test_writers_that_close_files_while_they_are_folded_lose_and_double_nothing(workspace: Workspace, folder: EndpointFolder) -> None:
    writers, lines = ("one", "two", "three"), 400

    def work(writer: str) -> None:
        log = RequestLog(folder.requests, file_bytes=3000, files=1000, writer=writer)
        for number in range(lines):
            write(log, (f"{writer} {number:03d}", NOW - number))
            time.sleep(0.002)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    folds = 0
    while any(thread.is_alive() for thread in threads):
        experiment_tables.fold(workspace, folder, at_once=5000)
        folds += 1
    experiment_tables.fold(workspace, folder)
    assert folds > 1 and there(workspace) == sorted(f"{writer} {number:03d}" for writer in writers for number in range(lines))
    assert segments.lost(folder.requests) == 0


def test_the_supervisor_folds_full_files_and_waits_where_it_fails(workspace: Workspace, folder: EndpointFolder) -> None:
    keeping = folding.Folding(folder)
    keeping.look()
    assert not keeping.running, "nothing is full"
    log = RequestLog(folder.requests, file_bytes=1)
    write(log, ("a", NOW))
    keeping.look()
    assert keeping.running
    deadline = time.monotonic() + 240
    while keeping.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    keeping.look()
    assert not keeping.running and there(workspace) == ["a"]


def test_the_logs_of_an_endpoint_on_a_cluster_are_folded_while_nobody_looks(workspace: Workspace, folder: EndpointFolder) -> None:
    """One model, so nothing of it ever moves: its keeper stays for the log, and goes when the endpoint is stopped."""
    folder.want({**folder.wanted(), "where": Cluster("lab", "ray").to_dict()})
    keeper.ensure(folder)
    lease = keeper._lease(folder)
    try:
        until(lambda: lease.held)
        write(RequestLog(folder.requests, file_bytes=1, writer="replica"), ("a", NOW))
        until(lambda: workspace.lake.current(NAME) is not None)
        assert there(workspace) == ["a"]
        write(RequestLog(folder.requests, file_bytes=1, writer="replica"), ("b", NOW + 1))
        until(lambda: there(workspace) == ["a", "b"])
        assert lease.held
    finally:
        folder.want({**folder.wanted(), "stopped": True})
    until(lambda: not lease.held)
    keeper.ensure(folder)
    assert not lease.held, "nobody keeps what is stopped"


def until(true: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def test_what_no_lake_took_goes_at_the_limit_and_is_counted(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests, file_bytes=1, files=4)
    for number in range(6):
        write(log, (f"{number}a", NOW), (f"{number}b", NOW))
    assert segments.lost(folder.requests) == 4
    experiment_tables.fold(workspace, folder)
    for number in range(6, 10):
        write(log, (f"{number}a", NOW), (f"{number}b", NOW))
    assert segments.lost(folder.requests) == 4, "what the lake has is no loss"
    experiment_tables.fold(workspace, folder)
    assert there(workspace) == [f"{number}{letter}" for number in range(2, 10) for letter in "ab"]


def test_what_a_full_disk_did_not_take_is_counted(folder: EndpointFolder) -> None:
    log = RequestLog(folder.requests)
    blocked = folder.requests / "current.jsonl"
    blocked.mkdir()
    write(log, ("a", NOW), ("b", NOW))
    blocked.rmdir()
    write(log, ("c", NOW))
    assert segments.lost(folder.requests) == 2


def test_outcomes_that_no_disk_took_are_not_said_to_be_received(folder: EndpointFolder) -> None:
    app = App("delays", "token", RequestLog(folder.requests), RequestLog(folder.outcomes))
    blocked = folder.outcomes / "current.jsonl"
    blocked.mkdir()
    body = b'{"outcomes": [{"id": "a", "value": 1.5}]}'
    with pytest.raises(Refusal, match="could not be written") as refused:
        asyncio.run(app._happened(body, "1"))
    assert refused.value.status == 503
    blocked.rmdir()
    assert b'"received":1' in asyncio.run(app._happened(body, "1")).replace(b" ", b"")


def test_outcomes_arrive_once_too(workspace: Workspace, folder: EndpointFolder) -> None:
    log = RequestLog(folder.outcomes)
    for at in (NOW, NOW - 5):
        log.add(Outcome(at, "a", 1.0))
        log.flush()
        experiment_tables.fold(workspace, folder)
    name = experiment_tables.names("delays")[1]
    assert workspace.lake.rows(name, str(workspace.lake.current(name))) == 2
