"""Where a rank works: relative paths of the notebook's code mean in the job what they mean there."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_mlp.backends import worker
from jupyter_mlp.store.jobs import RunFolder


def test_a_rank_works_in_the_notebooks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path / "run")
    (tmp_path / "notebook").mkdir()
    run.path.mkdir()
    monkeypatch.chdir(run.path)
    worker._enter(run, {"folder": str(tmp_path / "notebook")}, 0)
    assert Path.cwd() == tmp_path / "notebook" and run.events()[0] == []


def test_where_that_folder_is_not_there_the_first_rank_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    monkeypatch.chdir("/")
    for rank in (0, 1):
        worker._enter(run, {"folder": "/nowhere/at/all"}, rank)
    assert Path.cwd() == tmp_path
    [said] = run.events()[0]
    assert "Relative paths of the code mean the run's folder: /nowhere/at/all cannot be entered (No such file" in said["note"]
