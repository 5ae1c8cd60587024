"""What is said to run does run: whoever was killed is recorded as failed by the next look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jupyter_mlp as mlp
from jupyter_mlp.store.processes import identify, this_process
from jupyter_mlp.store.workspace import Workspace


def test_this_process_is_known_the_same_way_from_inside_and_outside() -> None:
    assert this_process() == identify(os.getpid()) and this_process().alive


def test_a_killed_process_is_not_running_any_more(workspace: Workspace, tmp_path: Path) -> None:
    code = (
        "import time\nfrom jupyter_mlp.store.workspace import current\n"
        "with current().activities.recording('query', name='trips'):\n    print('begun', flush=True)\n    time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    assert [activity.name for activity in mlp.status().running] == ["trips"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    found = mlp.status()
    assert found.running == ()
    assert found.recent[0].state == "failed" and "killed" in (found.recent[0].error or "")


def test_a_submission_that_was_killed_half_way_is_no_running_job(workspace: Workspace) -> None:
    workspace.activities.begin("train", name="Net", activity_id="20260101-000000-00000000")
    assert mlp.status().running == ()
    folder = workspace.runs / "20260101-000000-00000001"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text('{"cluster": "local", "python": "/bin/false"}')  # a supervisor that never comes up
    workspace.activities.begin("train", name="Net", activity_id=folder.name)
    deadline = time.monotonic() + 30
    while mlp.status().running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {activity.state for activity in workspace.activities.recent(["train"])} == {"failed"}
    assert "never came up" in (workspace.activities.recent(["train"])[0].error or "")
