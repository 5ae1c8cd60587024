"""A training that stands still is told from one that is slow, and the process that the others wait for is named."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlp import training_inputs
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import stalls
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.stalls import Stalls

DOING = "in the training step"


def pulse(run: RunFolder, rank: int, place: Any, moved: int = 1, kind: str = "pulse", **more: Any) -> None:
    step = {"step": place[0] + 1, "epoch": 1, "doing": DOING} if place else {}
    stalls.say(run, f"{kind}.{rank}.json", {"attempt": 1, "place": place, "moved": moved, **step, **more})


def after(seen: Stalls, seconds: float) -> bool:
    """Whether a stall has come in the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen.come():
            return True
        time.sleep(0.02)
    return False


def test_who_gets_on_or_has_not_begun_or_has_ended_does_not_stand_still(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    seen = Stalls(run, 2, 1.0)
    seen.begin(1)
    assert not after(seen, 1.5), "it starts, however long that takes"
    pulse(run, 0, [3, 1, 0])
    stopped = threading.Event()

    def get_on() -> None:
        moved = 0
        while not stopped.wait(0.1):
            pulse(run, 1, [3, 4, 0], moved := moved + 1)

    validating = threading.Thread(target=get_on)
    validating.start()
    assert not after(seen, 2.0), "rank 0 waits for rank 1, which validates"
    stopped.set()
    validating.join()
    pulse(run, 0, None)
    pulse(run, 1, None)
    assert not after(seen, 1.5), "it has ended, and is being published"
    assert not after(Stalls(run, 2, 0.0), 0.3)


def test_the_one_the_others_wait_for_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    seen = Stalls(run, 2, 0.5)
    seen.begin(1)
    pulse(run, 0, [30, 2, 0])
    pulse(run, 1, [30, 1, 0])
    assert after(seen, 5)
    pulse(run, 0, [30, 2, 0], kind="stall", stack="in wait, line 3 of exchange.py: wait()")
    pulse(run, 1, [30, 1, 0], kind="stall", stack="in training_step, line 12 of captured.py: time.sleep(99)")
    why, hint = seen.told()
    assert why == (
        "Training process 1 of 2 got no further for 0.5 s. It stands at step 31 (epoch 1), in the training step: "
        "in training_step, line 12 of captured.py: time.sleep(99)."
    )
    assert "--max-stall 1s" in hint and run.read(stalls.STILL) == {"attempt": 1}


def test_all_in_one_place_and_one_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "_SPEAK_S", 0.1)
    run = RunFolder(tmp_path)
    seen = Stalls(run, 2, 0.4)
    seen.begin(1)
    pulse(run, 0, [30, 2, 0])
    pulse(run, 1, [30, 2, 0])
    assert after(seen, 5)
    pulse(run, 0, [30, 2, 0], kind="stall", stack="in wait, line 3 of exchange.py: wait()")
    assert "native code that does not return" in seen.told()[0], "the one that does not answer is looked at"
    pulse(run, 1, [30, 2, 0], kind="stall", stack="in wait, line 3 of exchange.py: wait()")
    assert seen.told()[0].startswith("The 2 training processes got no further for 0.4 s. They stand at step 31")


def test_a_supervisor_that_was_suspended_itself_blames_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stalls.time, "monotonic", lambda: now[0])
    run = RunFolder(tmp_path)
    seen = Stalls(run, 1, 600.0)
    seen.begin(1)
    pulse(run, 0, [30, 2, 0])
    for passed in (20.0, 20.0, 50_000.0):
        now[0] += passed
        assert not seen.come()
    for _ in range(70):
        now[0] += 11.0
        if seen.come():
            break
    else:
        pytest.fail("in the end it is a stall")


def test_times_are_read_and_what_is_none_is_refused() -> None:
    read = training_inputs.stall
    assert [read(one) for one in ("10m", "10min", "90s", "1.5h", 0, "0")] == [600, 600, 90, 5400, 0, 0]
    for wrong in ("soon", 100, "10x", -1):
        with pytest.raises(InvalidInputError, match="that is no time") as error:
            read(wrong)
        assert "10min" in error.value.hint
    assert [stalls.duration(one) for one in (600, 3600, 90, 0.5, 5400)] == ["10 min", "1 h", "90 s", "0.5 s", "90 min"]
