"""Detached processes: known by pid and start time, ended with what they started."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from jupyter_mlp.store.processes import Process, identify

PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_left_behind_is_ended() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    child, process = psutil.Process(int(parent.stdout.readline())), identify(parent.pid)
    process.end_orphans()
    assert child.is_running(), "its parent lives"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    Process(process.pid, time.time() + 60).end_orphans()
    assert child.is_running(), "that one was another process of the same number"
    process.end_orphans()
    deadline = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
