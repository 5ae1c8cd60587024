"""The log of requests of several processes reads as one, oldest first."""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_mlp.serving import requests_log
from jupyter_mlp.serving.requests_log import Entry, RequestLog


def test_several_processes_write_files_of_their_own_that_read_as_one(tmp_path: Path) -> None:
    one, two = RequestLog(tmp_path, writer="one"), RequestLog(tmp_path, writer="two")
    for number in range(6):
        (one, two)[number % 2].add(Entry(float(number), str(number), 200, 0.1))
    one.flush()
    two.flush()
    assert [path.name for path in requests_log.currents(tmp_path)] == ["current.one.jsonl", "current.two.jsonl"]
    assert [entry.id for entry in requests_log.entries(tmp_path)] == list("012345")
    assert [entry.id for entry in requests_log.newest(tmp_path)] == list("012345")
    assert [entry.id for entry in requests_log.entries(tmp_path, limit=2)] == ["4", "5"]


def test_full_files_are_closed_and_the_oldest_go_those_of_ended_processes_too(tmp_path: Path) -> None:
    ended = RequestLog(tmp_path, writer="ended")
    ended.add(Entry(0.0, "old", 200, 0.1))
    ended.flush()
    os.utime(tmp_path / "current.ended.jsonl", (1, 1))
    log = RequestLog(tmp_path, file_bytes=1, files=2, writer="one")
    for number in range(4):
        log.add(Entry(1.0 + number, str(number), 200, 0.1))
        log.flush()
    assert [entry.id for entry in requests_log.entries(tmp_path)] == ["2", "3"]
