"""A run that was killed and went on reads as one story."""

from __future__ import annotations

from pathlib import Path

from jupyter_mlp.store import attempts, jobs
from jupyter_mlp.store.attempts import log_of, log_sizes, size_of, taken_over
from jupyter_mlp.store.jobs import RunFolder


def prints(run: RunFolder, text: str, rank: int = 0) -> None:
    with log_of(run.path, rank).open("a") as handle:
        handle.write(text)


def test_what_is_done_once_more_is_told_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.say({"attempt": 1, "resumes": None, "why": ""})
    prints(run, "starting\nstep 1\nstep 2\n")
    prints(run, "rank 1: step 1\nrank 1: step 2\n", 1)
    run.say({"step": 2, "metrics": {"loss": 2.0}})
    events, logs = size_of(tmp_path / "events.jsonl"), log_sizes(tmp_path, 2)  # a checkpoint after step 2
    prints(run, "step 3\nstep 4\nste")  # killed
    prints(run, "rank 1: step 3\n", 1)
    run.say({"step": 4, "metrics": {"loss": 4.0}})
    run.say({"supervisor": "note", "note": "kept"})
    run.say({"attempt": 2, "resumes": 2, "why": "killed"})
    prints(run, "starting\nloading\n")
    run.say({"step": 2, "steps": 9})
    run.say(taken_over(2, events, logs, log_sizes(tmp_path, 2)))
    prints(run, "step 3\nstep 4\nstep 5\n")
    prints(run, "rank 1: step 3\nrank 1: step 4\n", 1)
    run.say({"step": 4, "metrics": {"loss": 4.0}})
    assert attempts.log(run) == (
        "starting\nstep 1\nstep 2\nstep 3\nstep 4\nstep 5\n--- rank 1 ---\nrank 1: step 1\nrank 1: step 2\nrank 1: step 3\nrank 1: step 4\n"
    )
    assert jobs.metric_series(run) == {"loss": [(2, 2.0), (4, 4.0)]}
    assert [(one.number, one.resumes, one.why) for one in attempts.attempts(run)] == [(1, None, ""), (2, 2, "killed")]
    assert [event["note"] for event in attempts.history(run) if "note" in event] == ["kept"]


def test_an_older_checkpoint_takes_a_longer_piece_away(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    prints(run, "1\n2\n3\n")
    run.say(taken_over(1, 0, [2], [6]))
    prints(run, "2\n3\n4\n")
    run.say(taken_over(1, 0, [2], [12]))
    prints(run, "2\n")
    assert attempts.log(run) == "1\n2\n"
    run.say(taken_over(0, 0, [0], [14]))
    assert attempts.log(run) == "" and attempts.log(RunFolder(tmp_path / "none")) == ""


def test_a_line_cut_off_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.say({"step": 1, "metrics": {"loss": 1.0}})
    with (tmp_path / "events.jsonl").open("a") as handle:
        handle.write('{"step": 2, "met')
    run.say({"step": 3, "metrics": {"loss": 3.0}})
    assert jobs.metric_series(run) == {"loss": [(1, 1.0), (3, 3.0)]}
    assert len(run.events()[0]) == 2
