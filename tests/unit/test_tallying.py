"""What an endpoint's models did is counted once, whatever becomes of the files of the log and of who counts."""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_mlp.core import bad_shares, guards
from jupyter_mlp.serving import ramp_keeper, segments, tallying
from jupyter_mlp.serving.requests_log import Entry, RequestLog
from jupyter_mlp.store.deployments import EndpointFolder


def lines(log: RequestLog, count: int, model: str = "b", status: int = 200, ms: float = 5.0, generation: int = 2) -> None:
    for _ in range(count):
        log.add(Entry(1.0, "r", status, ms, model, rows=1, instances=[{"x": 1.0}], predictions=[1.0], generation=generation))
    assert log.flush()


def test_each_request_of_a_generation_is_counted_once(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    log, other = RequestLog(folder.requests), RequestLog(folder.requests, writer="two")
    lines(log, 50, generation=1)
    lines(log, 10)
    first = tallying.look(folder, 2, [50.0])
    assert first.whole["b"].answers == 10
    lines(other, 5, ms=80.0)
    lines(log, 3, status=500)
    lines(log, 4, model="a")
    log.add(Entry(1.0, "r", 200, 5.0, "b", shadow=True, generation=2))
    log.add(Entry(1.0, "r", 422, 5.0, generation=2))  # no model is to blame
    log.flush()
    os.replace(folder.requests / "current.jsonl", folder.requests / segments.closed_name(".jsonl"))
    lines(log, 2)
    for _ in range(2):  # the second time by somebody else, who has the file only
        found = tallying.look(folder, 2, [50.0])
        assert (found.whole["b"].answers, found.whole["b"].failures, found.whole["b"].slower) == (17, 3, {50.0: 5})
        assert found.whole["a"].answers == 4 and found.rest == 24 and found.lately("b") == found.whole["b"]
    assert tallying.look(folder, 3).whole == {}


def test_a_file_that_a_crash_left_empty_is_counted_anew(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    lines(RequestLog(folder.requests), 10)
    tallying.look(folder, 2)
    (folder.path / "tallies.json").write_bytes(b"")
    assert tallying.look(folder, 2).whole["b"].answers == 10


def test_lately_is_the_newest_block_and_what_came_since(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    log = RequestLog(folder.requests)
    lines(log, 3 * tallying.BLOCK)
    assert tallying.look(folder, 2).blocks == 3
    lines(log, 60, status=500)
    found = tallying.look(folder, 2)
    assert found.lately("b").asked == tallying.BLOCK + 60 and found.whole["b"].asked == 3 * tallying.BLOCK + 60


def test_a_model_that_goes_bad_after_a_long_good_time_goes_back(tmp_path: Path) -> None:
    folder = EndpointFolder(tmp_path / "delays")
    log = RequestLog(folder.requests)
    guard = guards.read("error_rate<=5%")
    for _ in range(20):
        lines(log, tallying.BLOCK // 2, "a")
        lines(log, tallying.BLOCK // 2)
        tallying.look(folder, 2)
    assert ramp_keeper._why(tallying.look(folder, 2), "a", "b", [guard], bad_shares.ALPHA) is None
    lines(log, 150, status=500)
    found = tallying.look(folder, 2)
    assert found.whole["b"].failures / found.whole["b"].asked < 0.05, "all in all the guard is kept"
    assert ramp_keeper._why(found, "a", "b", [guard], bad_shares.ALPHA) == "150 of 1,150 requests failed (error_rate<=5%)"
