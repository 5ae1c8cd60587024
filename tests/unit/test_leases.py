"""Who may do what only one may do, and that a kill frees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from jupyter_mlp.store.leases import Lease

HOLD = "import os, sys, time\nprint('has it', flush=True)\ntime.sleep(600)"


def test_only_one_takes_it_and_it_comes_back(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lock")
    assert not lease.held
    taken = lease.take()
    assert taken is not None and lease.held and Lease(tmp_path / "lock").take() is None
    os.close(taken)
    assert not lease.held and lease.take() is not None


def test_a_child_goes_on_holding_it_until_it_is_killed(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "lock")
    taken = lease.take()
    assert taken is not None
    children = [subprocess.Popen([sys.executable, "-c", HOLD], pass_fds=(taken,), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    os.close(taken)
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "has it\n"
        assert lease.held and lease.take() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert not lease.held
