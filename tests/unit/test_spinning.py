"""Idle threads of OpenMP sleep early while others want the cores, and only then; in processes of their own, where torch is fresh."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from jupyter_mlp.backends import spinning

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells how long a thread waited for a processor")

_BURNT = """
import time, torch
from jupyter_mlp.backends import spinning
torch.set_num_threads(2)
a = torch.randn(400, 400)

def burnt():
    a @ a
    begun = time.process_time()
    for _ in range(40):
        a @ a
        time.sleep(0.004)
    return time.process_time() - begun

crowd = spinning.Crowd(spinning._gnu_openmp(), torch.get_num_threads())
awake = burnt()
crowd.gather()
time.sleep(0.2)
asleep = burnt()
crowd.leave()
time.sleep(0.2)
again = burnt()
print(awake, asleep, again)
assert asleep < 0.75 * min(awake, again)
"""

_SHARED = """
import contextlib, os, subprocess, sys, threading, time, torch
from jupyter_mlp.backends import spinning
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with contextlib.suppress(PermissionError):
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # with the other one below, which inherits it: tests that run beside are not meant
over, crowd = threading.Event(), spinning.Crowd(spinning._gnu_openmp(), torch.get_num_threads())
threading.Thread(target=spinning._watch, args=(crowd, over), daemon=True).start()

def until(wanted):
    deadline = time.monotonic() + 60
    while crowd.gathered != wanted:
        assert time.monotonic() < deadline, f"still {crowd.gathered}"
        sum(range(20_000))
        if not wanted:
            time.sleep(0.01)

other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    until(True)
finally:
    other.kill()
    other.wait()
until(False)
over.set()
"""


def test_idle_threads_burn_less_beside_a_crowd() -> None:
    run(_BURNT)


def test_a_crowd_gathers_while_somebody_wants_the_core_and_leaves_afterwards() -> None:
    run(_SHARED)


@pytest.mark.parametrize(("waits", "gathers"), [([0, 1], False), ([0, 1, 1, 2], False), ([0, 1, 2], True)])
def test_a_moment_without_a_core_is_not_yet_a_lack(waits: list[float], gathers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start takes is over after one look, and a short training would pay for it to its end."""
    told, over, crowd = iter(waits), threading.Event(), Told()

    def waited() -> float:
        found = next(told, None)
        if found is None:
            over.set()
        return waits[-1] if found is None else found

    monkeypatch.setattr(spinning, "_waited_s", waited)
    monkeypatch.setattr(spinning, "_LOOK_S", 0.01)
    spinning._watch(crowd, over)  # type: ignore[arg-type]
    assert crowd.was == gathers


class Told:
    """In a crowd's place: whether it was told to gather."""

    gathered = was = False

    def gather(self) -> None:
        self.gathered = self.was = True

    def leave(self) -> None:
        self.gathered = False


def test_who_has_said_how_threads_wait_is_not_overruled() -> None:
    run(
        "import threading, torch\nfrom jupyter_mlp.backends import spinning\nwith spinning.considerate(2):\n"
        "    assert not [one for one in threading.enumerate() if one.name == 'mlp-spinning']",
        OMP_WAIT_POLICY="passive",
    )
    run(
        "import threading, torch\nfrom jupyter_mlp.backends import spinning\nwith spinning.considerate(2):\n"
        "    assert [one for one in threading.enumerate() if one.name == 'mlp-spinning']\n"
        "assert not [one for one in threading.enumerate() if one.name == 'mlp-spinning']"
    )


def run(code: str, **more: str) -> None:
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**unset, **more})
    assert done.returncode == 0, done.stdout + done.stderr
