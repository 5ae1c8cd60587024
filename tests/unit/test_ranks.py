"""The processes of an attempt, and what the user's code leaves behind when they have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from jupyter_mlp.backends import ranks
from jupyter_mlp.backends.ranks import Ranks
from jupyter_mlp.store.jobs import RunFolder

# Trains well, and leaves a process that holds what it held.
RANK = """
import json, os, sys, time
child = os.fork()
if child == 0:
    if sys.argv[1] == "own":
        os.setsid()
    time.sleep(600)
from jupyter_mlp.store.processes import this_process
word = {**this_process().to_dict(), "attempt": 1, "ended": "well", "at": time.time(), "left": child}
with open("rank.0.tmp", "w") as out:
    json.dump(word, out)
os.mkdir("result")
os.replace("rank.0.tmp", "rank.0.json")
"""


@pytest.mark.parametrize("session", ["its", "own"])
def test_what_ranks_leave_behind_does_not_keep_a_run_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str) -> None:
    def spawn(self: Ranks, rank: int, held: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", RANK, session], cwd=tmp_path, start_new_session=True, pass_fds=(held,))

    monkeypatch.setattr(Ranks, "_spawn", spawn)
    monkeypatch.setattr(ranks, "_LEFT_S", 0.3, raising=False)
    run = RunFolder(tmp_path)
    attempt = Ranks(run, 1)
    assert attempt.start(1, {})
    deadline = time.monotonic() + 20
    try:
        while attempt.watch():
            assert time.monotonic() < deadline, "it is running for ever"
            time.sleep(0.05)
        assert attempt.ending().well
        assert attempt.alive is (session == "own")
    finally:
        if attempt.alive:
            os.kill((run.read("rank.0.json") or {})["left"], signal.SIGKILL)
