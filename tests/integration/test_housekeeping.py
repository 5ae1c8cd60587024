"""What is held stays, what nobody needs goes, and a clean-up says what it did. Random lives with kills: test_pins.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import TableAlreadyExistsError
from sqlalchemy.exc import IntegrityError

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, MLPError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import datasets, lake, writers
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_GC_GRACE_S", "0")


def frame(number: int, rows: int = 1000) -> pa.Table:
    return pa.table({"n": [number] * rows, "x": [float(index) for index in range(rows)]})


def derived(workspace: Workspace, name: str, *used: Ref, number: int = 1) -> Ref:
    with workspace.activities.recording("query", name=name, used=used, key=f"{name}{number}") as draft:
        return datasets.publish_table(workspace, draft, name, frame(number))


def bytes_in(workspace: Workspace) -> int:
    own = ("records.db", "catalog.db", "gc.lock")
    return sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file() and not path.name.startswith(own))


def collected(**settings: Any) -> Any:
    time.sleep(0.06)
    return mlp.gc(yes=True, **settings)


def test_what_others_need_is_not_forgotten(workspace: Workspace) -> None:
    table = mlp.write_table("lake.t", frame(1)).reference
    mlp.write_table("lake.t", frame(2))
    first = derived(workspace, "trips", table)
    second = derived(workspace, "means", first)
    with pytest.raises(ConflictError, match=f"needs it: {second.short}") as refused:
        mlp.forget(str(first))
    assert "--cascade" in refused.value.hint
    with pytest.raises(ConflictError, match="1 thing needs it: dataset:trips"):
        mlp.forget(str(table))
    assert mlp.dataset(str(first)).rows == 1000
    assert set(mlp.forget(str(table), cascade=True).refs) == {table, first, second}
    with pytest.raises(NotFoundError, match="No dataset trips"):
        mlp.dataset("trips")
    assert workspace.activities.find("trips1") is None  # and no key finds it either
    told = workspace.activities.recent(["forget"])[0]
    assert set(told.facts["forgotten"]) == {str(one) for one in (table, first, second)}


def test_a_dry_run_says_what_a_run_does(workspace: Workspace) -> None:
    table = mlp.write_table("lake.t", frame(1)).reference
    gone, kept = derived(workspace, "trips", table), derived(workspace, "trips", table, number=2)
    gone_cache, kept_cache = (workspace.root / "cache" / "arrow" / f"{ref.version}.arrow" for ref in (gone, kept))
    gone_cache.parent.mkdir(parents=True)
    gone_cache.write_bytes(b"a")
    kept_cache.write_bytes(b"a")
    mlp.forget(str(gone))
    time.sleep(0.06)
    before = bytes_in(workspace)
    dry = mlp.gc()
    assert dry.freed == 0 and dry.bytes > 5_000 and bytes_in(workspace) == before
    assert {one.ref: one.alone for one in dry.found.holders}[kept] > 5_000
    files = {path for path in workspace.root.rglob("*") if path.is_file()}
    done = mlp.gc(yes=True)
    left = {path for path in workspace.root.rglob("*") if path.is_file()}
    assert {item.path for item in done.found.items} == {str(path) for path in files - left}
    assert {item.path for item in dry.found.items} == {item.path for item in done.found.items}
    assert done.freed == dry.bytes
    assert mlp.dataset(str(kept)).to_arrow().num_rows == 1000
    assert not gone_cache.exists() and kept_cache.exists()
    assert mlp.gc(yes=True).freed == 0
    assert "Nothing was removed yet" in repr(dry) and "freed" in repr(done)


def test_the_catalog_itself_refuses_to_drop_what_is_held(workspace: Workspace) -> None:
    table = mlp.write_table("lake.t", frame(1)).reference
    catalog = workspace.lake.catalog
    for take in (catalog.drop_table, catalog.purge_table):
        with pytest.raises(IntegrityError, match="versions that records refer to"):
            take("lake.t")
    with pytest.raises(TableAlreadyExistsError):  # what pyiceberg makes of any refusal
        catalog.rename_table("lake.t", "lake.u")
    assert len(workspace.lake.files("lake.t", str(table.version))) == 1
    assert mlp.forget("lake.t", all=True).refs == (table,)
    assert workspace.lake.names() == []
    assert collected().freed > 5_000
    assert mlp.write_table("lake.t", frame(1)).reused is False


def test_a_version_that_others_wrote_is_held_once_it_is_used(workspace: Workspace) -> None:
    mlp.write_table("lake.t", frame(1))
    workspace.lake.catalog.load_table("lake.t").append(frame(2))
    theirs = Ref("table", "lake.t", workspace.lake.current("lake.t"))
    mlp.pin(str(theirs), reason="used in the paper")
    workspace.lake.catalog.load_table("lake.t").append(frame(3))
    table = workspace.lake.catalog.load_table("lake.t")
    import datetime

    table.maintenance.expire_snapshots().older_than(datetime.datetime.now() + datetime.timedelta(days=1)).commit()
    collected()
    assert workspace.lake.rows("lake.t", str(theirs.version)) == 2000
    with pytest.raises(ConflictError, match="needs it: pin:"):
        mlp.forget(str(theirs))


def test_a_table_is_not_dropped_while_a_version_that_others_wrote_is_held(workspace: Workspace) -> None:
    mlp.write_table("lake.t", frame(1))
    workspace.lake.catalog.load_table("lake.t").append(frame(2))
    theirs = Ref("table", "lake.t", workspace.lake.current("lake.t"))
    pin = mlp.pin(str(theirs))
    workspace.seen["lake.t"] = str(theirs.version)
    mlp.write_table("lake.t", frame(3))
    with pytest.raises(ConflictError, match=f"{pin.reference.short}"):
        mlp.forget("lake.t", all=True)
    collected()
    assert workspace.lake.rows("lake.t", str(theirs.version)) == 2000
    assert pin.reference in mlp.forget("lake.t", all=True, cascade=True).refs
    assert workspace.lake.names() == []


def test_the_newest_version_of_a_table_is_what_its_name_means(workspace: Workspace) -> None:
    first, second = (mlp.write_table("lake.t", frame(number)).reference for number in (1, 2))
    with pytest.raises(ConflictError, match=r"what the name lake\.t means"):
        mlp.forget(str(second))
    mlp.forget(str(first))
    collected()
    assert workspace.lake.current("lake.t") == second.version
    with pytest.raises(NotFoundError, match="no version"):
        workspace.lake.files("lake.t", str(first.version))


def test_a_living_writer_keeps_its_files_and_a_dead_one_does_not(workspace: Workspace) -> None:
    mlp.write_table("lake.t", frame(1))
    code = (
        "import sys, time, pyarrow as pa\nfrom jupyter_mlp.store.workspace import current\n"
        "def rows():\n    for number in range(10 ** 6):\n"
        "        yield pa.record_batch({'n': [number] * 200_000})\n        number == 3 and (print('writing', flush=True), time.sleep(99))\n"
        "current().lake.stage('lake.t', rows(), pa.schema({'n': pa.int64()}))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        staged = [path for path in (workspace.root / "lake" / "lake" / "t" / "data").iterdir() if path.suffix == ".parquet"]
        assert len(staged) == 2
        assert collected().freed == 0
        assert all(path.exists() for path in staged)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        collected()
        assert sum(path.exists() for path in staged) == 1
        assert list((workspace.root / "writers").iterdir()) == []
    finally:
        writer.kill()
        writer.wait()


def test_clean_ups_beside_writers_take_nothing_of_theirs(workspace: Workspace) -> None:
    code = (
        "import sys, pyarrow as pa, jupyter_mlp as mlp\nfrom jupyter_mlp.store import datasets\n"
        "from jupyter_mlp.store.workspace import current\nwho = int(sys.argv[1])\n"
        "for number in range(8):\n"
        "    frame = pa.table({'n': [1000 * who + number] * 10})\n"
        "    table = mlp.write_table(f'lake.t{who}', frame, append=number % 2 == 1).reference\n"
        "    with current().activities.recording('query', name=f'd{who}', used=[table]) as draft:\n"
        "        datasets.publish_table(current(), draft, f'd{who}', frame)\n"
    )
    mlp.gc()
    working = [subprocess.Popen([sys.executable, "-c", code, str(who)], stderr=subprocess.PIPE, text=True) for who in range(2)]
    rounds = 0
    while any(one.poll() is None for one in working):
        mlp.gc(yes=True)
        rounds += 1
    assert [(one.communicate()[1], one.returncode) for one in working] == [("", 0)] * 2
    assert rounds > 1
    time.sleep(0.06)
    mlp.gc(yes=True)
    for who in range(2):
        for number, ref in enumerate(reversed(workspace.activities.versions("dataset", f"d{who}"))):
            assert mlp.dataset(str(ref)).to_arrow().column("n").to_pylist() == [1000 * who + number] * 10
        versions = list(reversed(workspace.activities.versions("table", f"lake.t{who}")))
        assert [workspace.lake.rows(ref.name, str(ref.version)) for ref in versions] == [10, 20] * 4


def test_what_runs_keeps_what_it_uses_and_writes(workspace: Workspace) -> None:
    table = mlp.write_table("lake.t", frame(1)).reference
    mlp.write_table("lake.t", frame(2))
    running = workspace.activities.begin("query", name="slow", used=[table])
    half = workspace.root / "lake" / "datasets" / "slow" / ("0" * 32) / "part-0.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    with pytest.raises(ConflictError, match="is being used by query"):
        mlp.forget(str(table), cascade=True)
    collected()
    assert half.exists()
    workspace.activities.fail(running, "it failed")
    collected()
    assert not half.exists() and not half.parent.exists()
    mlp.forget(str(table))


def test_runs_models_snapshots_and_left_overs(workspace: Workspace) -> None:
    def record(kind: str, *made: Ref, state: str = "finished", **facts: Any) -> str:
        activity = workspace.activities.begin(kind, name="Net")
        if state == "failed":
            workspace.activities.fail(activity, "no")
        else:
            workspace.activities.finish(activity, made=made, facts=facts)
        return activity.id

    def file(*parts: str) -> Path:
        path = workspace.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
        return path

    model = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    activity = workspace.activities.begin("train", name="Net")
    workspace.activities.finish(activity, made=[Ref("run", activity.id), Ref("model", model)])
    failed = record("train", state="failed")
    page, manifest = workspace.artifacts.put(b"<html>"), ""
    manifest = workspace.artifacts.put(f'{{"notebook": "{page}"}}'.encode())
    record("snapshot", Ref("snapshot", manifest[:32]), manifest=manifest)
    kept = [file("runs", activity.id, "log.txt"), file("models", model, "weights"), file("runs", failed, "log.txt")]
    kept += [workspace.artifacts.path(page), workspace.artifacts.path(manifest), file("mine", "notes.txt"), file("notes.txt")]
    strays = [file("runs", "20200101-000000-00000000", "log.txt"), file("models", "1" * 8, "w"), file("artifacts", "ab", "a" * 64)]
    strays += [file("artifacts", "ab", ".mlp-tmp-0123"), file("scratch", "1", "records.db"), file("lake", "lake", "t", "data", "a.parquet")]
    assert collected().freed == 600
    assert all(path.exists() for path in kept) and not any(path.exists() for path in strays)
    mlp.forget(f"run:{activity.id}")
    mlp.forget(f"run:{failed}")
    mlp.forget(f"snapshot:{manifest[:8]}")
    assert collected().freed == 300 + 6 + len(f'{{"notebook": "{page}"}}')
    assert [path.exists() for path in kept] == [False] * 5 + [True] * 2
    assert not (workspace.root / "runs" / failed).exists()


def test_rules_by_age_and_by_size(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [mlp.write_table("lake.t", frame(number)).reference for number in range(4)]
    used = derived(workspace, "trips", tables[0])
    old = derived(workspace, "means", tables[1])
    derived(workspace, "means", tables[2], number=2)
    mlp.pin(str(used))
    derived(workspace, "trips", tables[3], number=2)
    assert mlp.gc().found.expired == ()
    monkeypatch.setenv("MLP_KEEP_DAYS", "1000")
    workspace.__dict__.pop("settings", None)
    assert mlp.gc().found.expired == ()
    monkeypatch.setenv("MLP_KEEP_DAYS", "1e-9")
    workspace.__dict__.pop("settings", None)
    # trips@1 is pinned and holds t@0; the newest of each name stays and holds t@2 and t@3; means@1 goes, and t@1 with it
    assert set(mlp.gc().found.expired) == {tables[1], old}
    monkeypatch.setenv("MLP_KEEP_DAYS", "0")
    monkeypatch.setenv("MLP_KEEP_GB", "1")
    workspace.__dict__.pop("settings", None)
    assert mlp.gc().found.expired == ()
    size = sum(path.stat().st_size for path in (workspace.root / "lake").rglob("*.parquet"))
    monkeypatch.setenv("MLP_KEEP_GB", str((size - 100) / 1e9))
    workspace.__dict__.pop("settings", None)
    assert mlp.gc().found.expired == (old,)  # the oldest unused one is enough
    done = collected()
    assert done.found.expired == (old,) and done.freed > 5_000
    assert workspace.lake.rows("lake.t", str(tables[1].version)) == 1000


def test_what_was_given_again_stands_by_its_young_record(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = derived(workspace, "old")
    derived(workspace, "old", number=2)
    known = workspace.activities.find("old1")
    assert known is not None
    long_ago = {"id": known.id, "at": time.time() - 100 * 86_400}
    with workspace.database.transaction(write=True) as connection:
        connection.execute("UPDATE activities SET started_at = :at, ended_at = :at WHERE id = :id", long_ago)
    today = workspace.activities.again(known)
    derived(workspace, "old", number=3)
    monkeypatch.setenv("MLP_KEEP_DAYS", "90")
    workspace.__dict__.pop("settings", None)
    assert mlp.gc().found.expired == collected().found.expired == ()
    assert workspace.activities.get(today.id).state == "finished"
    assert workspace.activities.get(known.id).state == "forgotten"
    assert mlp.dataset(str(first)).to_arrow().num_rows == 1000


def test_one_clean_up_at_a_time(workspace: Workspace) -> None:
    mlp.write_table("lake.t", frame(1))
    with writers.alone(workspace.root), pytest.raises(ConflictError, match="Another clean-up"):
        mlp.gc()
    mlp.gc()


def test_compaction_keeps_every_row_in_order(workspace: Workspace) -> None:
    for number in range(6):
        mlp.write_table("lake.t", frame(number, 10), append=True)
    before = workspace.lake.current("lake.t")
    assert before is not None
    rows = [n for path in workspace.lake.files("lake.t", before) for n in pa.parquet.read_table(path)["n"].to_pylist()]
    done = mlp.compact("lake.t")
    assert done.files == (6, 1) and done.found.rows == 60
    (path,) = workspace.lake.files("lake.t", str(done.found.ref.version))
    assert sorted(pa.parquet.read_table(path)["n"].to_pylist()) == sorted(rows)
    assert len(workspace.lake.files("lake.t", before)) == 6  # as it was
    assert mlp.compact("lake.t").found.changed is False
    assert workspace.activities.recent(["compact"])[0].used == (Ref("table", "lake.t", before),)


def test_compaction_never_loses_rows_that_others_add_meanwhile(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        mlp.write_table("lake.t", frame(number, 10), append=True)
    stage = lake.Lake.stage
    late = []

    def slow(self: lake.Lake, *arguments: Any) -> list[str]:
        found = stage(self, *arguments)
        if not late:
            late.append(self.catalog.load_table("lake.t"))
            late[0].append(frame(9, 10))
        return found

    monkeypatch.setattr(lake.Lake, "stage", slow)
    done = mlp.compact("lake.t")
    assert late and done.found.rows == 40 and done.files == (4, 1)
    monkeypatch.undo()
    os.environ["MLP_GC_GRACE_S"] = "0"


def test_an_answer_is_not_given_again_from_what_was_forgotten_this_moment(workspace: Workspace) -> None:
    first = derived(workspace, "trips")
    known = workspace.activities.find("trips1")
    assert known is not None
    mlp.forget(str(first))
    with pytest.raises(MLPError, match="forgotten this moment"):
        workspace.activities.again(known, "other", [Ref("dataset", "other", first.version)])


def answered(workspace: Workspace) -> Ref:
    """An answer as a question has it: the same question has the same version."""

    def write(folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        pq.write_table(frame(1), folder / "part-0.parquet")
        return []

    with workspace.activities.recording("query", name="trips", key="trips") as draft:
        return datasets.publish(workspace, draft, "trips", write, version="ab" * 16)


def test_an_answer_that_was_forgotten_and_asked_again_has_new_bytes(workspace: Workspace) -> None:
    def files() -> int:
        return len(list((workspace.root / "lake").rglob("*.parquet")))

    for cleaned in (False, True):
        mlp.forget(str(answered(workspace)))
        if cleaned:
            collected()
            assert files() == 0
        again = answered(workspace)
        done = collected()
        assert files() == 1 and done.found.missing == ()  # those of the first answer go at once
        assert mlp.dataset(str(again)).to_arrow().num_rows == 1000


def test_a_released_artifact_that_is_put_again_waits_for_its_record(workspace: Workspace) -> None:
    with workspace.activities.recording("report", name="r") as draft:
        draft.facts["page"] = workspace.artifacts.put(b"page")
        draft.made.append(Ref("report", "ab" * 16))
    page = str(draft.facts["page"])
    mlp.forget(str(draft.made[0]))
    time.sleep(0.06)
    with writers.at_work(workspace.root):  # somebody is about to record it
        assert workspace.artifacts.put(b"page") == page
        mlp.gc(yes=True)
        assert workspace.artifacts.get(page) == b"page"
    collected()
    assert not workspace.artifacts.path(page).exists()


def test_running_endpoints_stay(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_mlp.store import deployments

    with workspace.activities.recording("deploy", name="delays") as draft:
        draft.made.append(Ref("endpoint", "delays", "1"))
    folder = deployments.folder(workspace, "delays")
    folder.want({"generation": 1})
    monkeypatch.setattr(deployments.EndpointFolder, "running", True)
    with pytest.raises(ConflictError, match="is running"):
        mlp.forget("endpoint:delays")
    monkeypatch.setattr(deployments.EndpointFolder, "running", False)
    mlp.forget("endpoint:delays")
    assert collected().freed > 0 and not folder.path.exists()
