"""Where a rank works: relative paths of the notebook's code mean in the job what they mean there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_mlp.backends import worker
from jupyter_mlp.core.errors import StorageError
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


def _told_to_end_by_ray(*_: object) -> None:
    from ray._raylet import raise_sys_exit_with_custom_error_message  # what Ray's handler of SIGTERM calls

    raise_sys_exit_with_custom_error_message("The process receives a SIGTERM.", exit_code=1)


def _and_then_in_trouble(*_: object) -> None:
    try:
        _told_to_end_by_ray()
    finally:
        {}["taking things apart"]


def _and_says_so(*_: object) -> None:
    try:
        _told_to_end_by_ray()
    finally:
        raise StorageError("The checkpoint could not be written.", "Look at the disk.")


def _exits(*_: object) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("ends", "again", "said"),
    [
        (_told_to_end_by_ray, True, "was told to end (SIGTERM)"),
        (_and_then_in_trouble, True, "was told to end (SIGTERM)"),
        (_and_says_so, True, "was told to end (SIGTERM)"),
        (_exits, False, "SystemExit: 1"),
    ],
)
def test_a_rank_that_was_told_to_end_made_no_mistake(
    ends: Callable[..., None], again: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_train", ends)
    assert worker.main(tmp_path) == 1
    word = RunFolder(tmp_path).read("rank.0.json")
    assert word is not None and word["ended"] == "error" and word["again"] is again and said in word["error"]
