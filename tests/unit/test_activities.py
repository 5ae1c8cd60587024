"""The activity record, on SQLite and on Postgres: the same tests, the same answers."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from jupyter_mlp.core.errors import NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("any_database")

A, B = Ref("dataset", "trips", "aaaa1111"), Ref("dataset", "trips", "bbbb2222")


def make(workspace: Workspace, made: Ref, key: str | None = None, used: tuple[Ref, ...] = ()) -> str:
    with workspace.activities.recording("query", name=made.name, key=key, used=used) as draft:
        draft.made.append(made)
        draft.facts["rows"] = 3
    return draft.activity.id


def test_the_newest_wins_and_old_versions_stay(workspace: Workspace) -> None:
    make(workspace, A)
    make(workspace, B)
    assert workspace.activities.resolve(Ref("dataset", "trips")) == B
    assert workspace.activities.resolve(Ref("dataset", "trips", "aaaa")) == A
    assert workspace.activities.versions("dataset", "trips") == [B, A]


def test_found_by_key_only_when_finished(workspace: Workspace) -> None:
    running = workspace.activities.begin("query", key="k")
    assert workspace.activities.find("k") is None
    workspace.activities.finish(running, made=[A])
    found = workspace.activities.find("k")
    assert found is not None and found.made == (A,)


def test_a_failed_block_registers_nothing(workspace: Workspace) -> None:
    def fails() -> None:
        with workspace.activities.recording("query", key="k") as draft:
            draft.made.append(A)
            raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError):
        fails()
    assert workspace.activities.find("k") is None
    assert workspace.activities.names("dataset") == []
    assert workspace.activities.recent()[0].state == "failed"


def test_a_closed_record_stays_as_it_is(workspace: Workspace) -> None:
    activity = workspace.activities.begin("train")
    workspace.activities.finish(activity, made=[A], facts={"x": 1})
    again = workspace.activities.fail(activity, "too late")
    assert again.state == "finished" and again.facts == {"x": 1}
    assert workspace.activities.get(activity.id).made == (A,)


def test_unknown_names_come_with_the_nearest(workspace: Workspace) -> None:
    make(workspace, A)
    with pytest.raises(NotFoundError) as error:
        workspace.activities.resolve(Ref("dataset", "tripps"))
    assert "trips" in error.value.hint


def test_maker_and_users(workspace: Workspace) -> None:
    make(workspace, A)
    user = make(workspace, B, used=(A,))
    maker = workspace.activities.maker(A)
    assert maker is not None and maker.made == (A,)
    assert [activity.id for activity in workspace.activities.users(A)] == [user]


def test_a_scratch_workspace_reads_through_and_writes_beside(workspace: Workspace, tmp_path: Path) -> None:
    make(workspace, A, key="k")
    scratch = Workspace(tmp_path / "scratch", parent=workspace, pins={"dataset:pinned": "0001"})
    assert scratch.activities.resolve(Ref("dataset", "trips")) == A
    assert scratch.activities.find("k") is not None
    assert scratch.activities.newest("dataset", "pinned") == Ref("dataset", "pinned", "0001")
    make(scratch, B)
    assert scratch.activities.resolve(Ref("dataset", "trips")) == B
    assert workspace.activities.resolve(Ref("dataset", "trips")) == A


def _write(root: str, count: int) -> None:
    workspace = Workspace(root)
    for _ in range(count):
        with workspace.activities.recording("query", name="n") as draft:
            draft.made.append(Ref("dataset", "n", draft.activity.id))


def test_many_processes_write_at_once(workspace: Workspace) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(workspace.root), 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(workspace.activities.versions("dataset", "n", limit=1000)) == 100
    seqs = sorted(activity.seq for activity in workspace.activities.recent(limit=1000))
    assert seqs == list(range(1, 101))


def test_the_first_word_about_an_end_stands(workspace: Workspace) -> None:
    activity = workspace.activities.begin("query", key="k")
    elsewhere = Workspace(workspace.root)
    assert elsewhere.activities.fail(activity, "killed").state == "failed"
    late = workspace.activities.finish(activity, made=[A])
    assert late.state == "failed" and late.error == "killed" and late.made == ()
    assert workspace.activities.names("dataset") == []
