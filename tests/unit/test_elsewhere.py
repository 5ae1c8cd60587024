"""Data that is learned from where it lies: over HTTP from a real server, from folders of this machine, from tables of the lake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import file_server
import ftp_server
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_server import FileServer

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import Again, InvalidInputError, MissingPackageError, MLPError, NotFoundError, StorageError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches, elsewhere, filesystems
from jupyter_mlp.store.batches import HELD_OUT, TRAIN, Plan
from jupyter_mlp.store.row_groups import RowGroups
from jupyter_mlp.store.workspace import Workspace

COUNT = 12_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    """Three files of four row groups each, with a column that nobody learns from."""
    folder = tmp_path / "served" / "trips"
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    for number in range(3):
        x = np.arange(COUNT, dtype=np.float64) + number * COUNT
        table = pa.table({"x": x, "y": 2 * x})
        table = table.append_column("photo", pa.array([random.bytes(64) for _ in range(COUNT)]))
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=3000)
    (folder / "_SUCCESS").touch()
    with file_server.running(tmp_path / "served") as running:
        yield running


def recipe_and_plan(data: mlp.data.DatasetVersion) -> tuple[Recipe, Plan]:
    """A recipe of x, and the plan of the rows."""
    schema = pa.schema([("x", pa.float64()), ("y", pa.float64())])
    recipe = Recipe.infer(schema, "y").fit(data.batches(["x", "y"]))
    return recipe, batches.split(data.files, recipe, 0.1, 7, data.pins)


def rows(plan: Plan, recipe: Recipe, **more: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(batches.stream(plan, recipe, TRAIN, 512, **more))


def test_files_of_a_url_are_pinned_and_recorded(workspace: Workspace, server: FileServer) -> None:
    data = elsewhere.load(workspace, f"{server.url}/trips")
    assert data.rows == 3 * COUNT and data.files == [f"{server.url}/trips/part-{i}.parquet" for i in range(3)]
    assert data.schema.names == ["x", "y", "photo"] and data.stem == "trips"
    assert data.ref.startswith(f"file:{server.url}/trips@") and set(data.pins) == set(data.files)
    made = workspace.activities.maker(data.reference)
    assert made is not None and [ref.version for ref in made.used] == list(data.pins.values())
    for again in (f"{server.url}/trips/", f"{server.url}/trips", data.ref):
        assert elsewhere.load(workspace, again).ref == data.ref
    assert len(workspace.activities.recent(["files"])) == 1
    some = elsewhere.load(workspace, f"{server.url}/trips/*[01].parquet")
    assert some.rows == 2 * COUNT and some.ref != data.ref and some.stem == "trips"
    assert elsewhere.load(workspace, f"{server.url}/trips/part-1.parquet").stem == "part_1"


def test_names_of_folders_are_columns(workspace: Workspace, server: FileServer) -> None:
    for year, carrier in ((2012, "UA"), (2013, "UA"), (2013, "B%206"), (2013, "__HIVE_DEFAULT_PARTITION__")):
        place = server.folder / "state=NY" / "flights" / f"year={year}" / f"carrier={carrier}"
        place.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1.0, 2.0, float(len(carrier))]}), place / "a.parquet")
    for place in (str(server.folder / "state=NY" / "flights"), str(server.folder / "state=NY" / "flights" / "*" / "*" / "*.parquet")):
        data = elsewhere.load(workspace, place)
        assert data.schema == pa.schema([("x", pa.float64()), ("year", pa.int64()), ("carrier", pa.string())])
        found = data.to_arrow(["carrier", "year"]).to_pydict()
        told = set(zip(found["year"], found["carrier"], strict=True))
        assert told == {(2012, "UA"), (2013, "UA"), (2013, "B 6"), (2013, None)} and len(found["year"]) == 12
        recipe = Recipe.infer(data.schema, "year", "regression").fit(data.batches())
        plan = Plan.from_dict(batches.split(data.files, recipe, 0.0, 7, data.pins, data.folders).to_dict())
        assert sorted(np.concatenate([y for _, y in batches.stream(plan, recipe, TRAIN, 5)])) == [2012] * 3 + [2013] * 9


def test_a_folder_of_this_machine_has_one_name(workspace: Workspace, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = server.folder / "trips"
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    found = [elsewhere.load(workspace, one) for one in (str(folder), f"{folder}/", "./trips", "~/trips", f"file://{folder}")]
    assert {one.ref for one in found} == {found[0].ref} and found[0].ref.startswith(f"file:{folder}@")
    assert elsewhere.load(workspace, found[0].ref).files == found[0].files == sorted(map(str, folder.glob("*.parquet")))


def test_each_rank_reads_the_same_rows_as_from_local_files(workspace: Workspace, server: FileServer) -> None:
    there = elsewhere.load(workspace, f"{server.url}/trips")
    here = elsewhere.load(workspace, str(server.folder / "trips"))
    recipe, plan = recipe_and_plan(there)
    local = batches.split(here.files, recipe, 0.1, 7, here.pins)
    for rank in range(2):
        for start in (0, 11):
            found = rows(plan, recipe, rank=rank, world=2, epoch=1, start=start)
            expected = rows(local, recipe, rank=rank, world=2, epoch=1, start=start)
            assert len(found) == len(expected) == plan.steps(TRAIN, 2, 512) - start
            assert all(np.array_equal(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    assert there.to_arrow(["y"]).equals(here.to_arrow(["y"]))


def test_a_rank_reads_its_own_row_groups_and_columns_only(
    workspace: Workspace, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_WINDOW", 3000)
    monkeypatch.setattr(batches, "_LEAST", 3000)
    data = elsewhere.load(workspace, f"{server.url}/trips")
    recipe, plan = recipe_and_plan(data)
    wanted = sum(
        pq.ParquetFile(path).metadata.row_group(i).column(at).total_compressed_size
        for path in (server.folder / "trips").glob("*.parquet")
        for i in range(4)
        for at in range(2)
    )
    footers = 3 * 2**16
    server.sent = 0
    rows(plan, recipe)
    assert wanted < server.sent <= wanted + footers
    server.sent = 0
    rows(plan, recipe, rank=1, world=3)
    assert server.sent < 0.5 * wanted + footers
    server.sent = 0
    rows(plan, recipe, rank=2, world=3, start=plan.steps(TRAIN, 3, 512) - 1)  # the last batch alone
    assert server.sent <= 0.1 * wanted + footers


def test_a_changed_file_is_named_and_not_learned_from(workspace: Workspace, server: FileServer) -> None:
    data = elsewhere.load(workspace, f"{server.url}/trips")
    recipe, plan = recipe_and_plan(data)
    path = server.folder / "trips" / "part-1.parquet"
    pq.write_table(pq.read_table(path).slice(0, 9000), path, row_group_size=3000)
    with pytest.raises(StorageError, match=r"part-1.parquet changed since it was taken as data") as error:
        rows(plan, recipe)
    assert "Train again" in error.value.hint and not isinstance(error.value, Again)
    assert elsewhere.load(workspace, f"{server.url}/trips").ref != data.ref
    with pytest.raises(StorageError, match="changed since"):
        elsewhere.load(workspace, data.ref).to_arrow()
    for half in (b"no parquet" * 900, b"half"):  # somebody is writing it while it is read
        shutil.copy(server.folder / "trips" / "part-0.parquet", path)
        data = elsewhere.load(workspace, f"{server.url}/trips")
        recipe, plan = recipe_and_plan(data)
        server.then = lambda asked, half=half: path.write_bytes(half) if asked.endswith("part-1.parquet") else None  # type: ignore[misc]
        with pytest.raises(StorageError, match=r"part-1.parquet changed since it was taken as data"):
            rows(plan, recipe)
        with server.lock:  # the last answer may be read before that has happened
            server.then = lambda asked: None
    path.unlink()
    with pytest.raises(NotFoundError, match=r"There is no .*part-1.parquet"):
        rows(plan, recipe)


def test_a_file_that_changes_while_it_is_read_is_noticed(workspace: Workspace, server: FileServer) -> None:
    data = elsewhere.load(workspace, f"{server.url}/trips")
    recipe, plan = recipe_and_plan(data)
    reading = batches.stream(plan, recipe, TRAIN, 512, epoch=1)
    next(reading)
    for path in (server.folder / "trips").glob("*.parquet"):
        os.utime(path, ns=(1, 1))
    with pytest.raises(StorageError, match="changed since"):
        rows(plan, recipe, epoch=1)


def test_a_broken_connection_is_tried_again(workspace: Workspace, server: FileServer) -> None:
    data = elsewhere.load(workspace, f"{server.url}/trips")
    reader = RowGroups(data.pins, wait_s=0.01)
    server.hangs_up = 3
    places = [(path, at) for path in data.files for at in range(4)]
    assert sum(len(table) for table in reader.tables(places, ["x"])) == 3 * COUNT
    server.hangs_up = 10_000
    with pytest.raises(Again, match=r"part-0.parquet cannot be reached: .* It was tried 5 times.") as error:
        list(RowGroups(data.pins, wait_s=0.01).tables(places, ["x"]))
    assert error.value.hint and "\n" not in error.value.message


def test_a_server_of_one_connection(workspace: Workspace, server: FileServer) -> None:
    here = elsewhere.load(workspace, str(server.folder / "trips"))
    recipe, local = recipe_and_plan(here)
    with ftp_server.running(server.folder) as (address, stop):
        there = elsewhere.load(workspace, f"{address}/trips")
        assert there.files == [f"{address}/trips/part-{i}.parquet" for i in range(3)]
        plan = batches.split(there.files, recipe, 0.1, 7, there.pins)
        training = batches.stream(plan, recipe, TRAIN, 512, epoch=1)
        next(training)  # validation reads while the training's next rows are on their way
        assert sum(len(x) for x, _ in batches.stream(plan, recipe, HELD_OUT, 512)) == plan.rows(HELD_OUT)
        training.close()
        both = zip(rows(plan, recipe, rank=1, world=2), rows(local, recipe, rank=1, world=2), strict=True)
        assert all(np.array_equal(x, a) and np.array_equal(y, b) for (x, y), (a, b) in both)
        path = server.folder / "trips" / "part-1.parquet"
        os.utime(path, (1, 1))
        with pytest.raises(StorageError, match=r"part-1.parquet changed since"):
            rows(plan, recipe)
        stop()
        with pytest.raises(Again, match=r"cannot be reached: .* It was tried 5 times."):
            list(RowGroups(there.pins, wait_s=0.01).tables([(there.files[0], 0)], ["x"]))
        with pytest.raises(StorageError, match="cannot be reached"):
            elsewhere.load(workspace, f"{address}/trips")


def test_a_server_without_ranges_is_refused(workspace: Workspace, server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(StorageError, match="gives other parts of the file than it is asked for") as error:
        elsewhere.load(workspace, f"{server.url}/trips")
    assert "%mlp_table" in error.value.hint


def test_what_cannot_be_learned_from_is_said_in_a_sentence(workspace: Workspace, server: FileServer) -> None:
    trips = server.folder / "trips"
    (server.folder / "other").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), server.folder / "other" / "a.parquet")
    pq.write_table(pa.table({"x": ["a"]}), server.folder / "other" / "b.parquet")
    (server.folder / "broken").mkdir()
    (server.folder / "broken" / "a.parquet").write_bytes(b"no parquet" * 10)
    (server.folder / "shut").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), server.folder / "shut" / "a.parquet")
    server.closed = ("shut",)
    key = server.url.replace("http://", "http://me:secret@")
    for place, kind, said, hint in (
        (f"{server.url}/nowhere", NotFoundError, "There is no", "Check"),
        (f"{server.url}/trips/*.csv", NotFoundError, "There is no Parquet file", "glob"),
        (f"{server.url}/shut/a.parquet", StorageError, "may not be read with the keys of this environment", "AWS_ACCESS_KEY_ID"),
        (f"{server.url}/other", InvalidInputError, "b.parquet has other columns than", "%mlp_table"),
        (f"{server.url}/broken", InvalidInputError, "a.parquet cannot be read as Parquet", "Check the file"),
        (f"{key}/trips", InvalidInputError, "was given with a password or a query", "environment"),
        (f"{server.url}/trips/part-0.parquet?token=secret", InvalidInputError, "was given with a password or a query", "environment"),
        (f"simplecache::{server.url}/trips", InvalidInputError, "lies in other files", "%mlp_table"),
        ("memory://trips", InvalidInputError, "memory of this process", "%mlp_table"),
        ("nothing://trips", InvalidInputError, "Protocol not known", "s3://"),
        ("oss://bucket/trips", MissingPackageError, "oss:// needs ossfs", "pip install ossfs"),
        ("http://127.0.0.1:9/trips/a.parquet", StorageError, "cannot be reached", "network"),
        (str(trips / "nothing"), NotFoundError, "There is no", "Check"),
        ("lake.nothing", NotFoundError, "No table lake.nothing", ""),
    ):
        with pytest.raises(MLPError) as error:
            elsewhere.load(workspace, place)
        assert isinstance(error.value, kind) and said in error.value.message, (place, error.value)
        assert hint in error.value.hint and "\n" not in error.value.message and "secret" not in str(error.value)
    assert not workspace.activities.recent(["files"])


def test_a_table_is_learned_from_where_its_files_lie(workspace: Workspace, server: FileServer) -> None:
    table = mlp.write_table("trips", str(server.folder / "trips"), in_place=True)
    data = elsewhere.load(workspace, "lake.trips")
    assert data.ref == table.ref == elsewhere.load(workspace, table.ref).ref
    assert sorted(data.files) == sorted(map(str, (server.folder / "trips").glob("*.parquet"))) and set(data.pins) == set(data.files)
    recipe, plan = recipe_and_plan(data)
    assert sum(len(x) for x, _ in rows(plan, recipe)) == plan.rows(TRAIN)
    path = server.folder / "trips" / "part-2.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=6000)
    with pytest.raises(StorageError, match=r"part-2.parquet changed since"):
        rows(plan, recipe)
    with pytest.raises(StorageError, match=r"part-2.parquet changed since version .* took it in place"):
        elsewhere.load(workspace, "lake.trips")
    copied = mlp.write_table("copied", str(server.folder / "trips"))
    kept = elsewhere.load(workspace, "lake.copied")
    assert kept.ref == copied.ref and kept.pins == {} and kept.rows == 3 * COUNT


def test_a_verb_that_reads_datasets_alone_says_so(workspace: Workspace) -> None:
    with pytest.raises(InvalidInputError, match="s3://bucket/trips names files, not a dataset") as error:
        mlp.dataset("s3://bucket/trips?key=secret")
    assert "%mlp_table NAME s3://bucket/trips copies them" in error.value.hint and "secret" not in str(error.value)


def test_places_are_told_from_datasets() -> None:
    assert all(map(filesystems.is_place, ("s3://b/t", "./t.parquet", "data/t", "/data/t", "~/t")))
    assert not any(map(filesystems.is_place, ("trips", "trips@1f3c", "dataset:trips@1f3c", "lake.trips", "table:lake.trips@1")))
