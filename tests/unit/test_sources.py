"""What tables are made from: files of every kind wherever fsspec reaches, folders whose names are columns, files left in place."""

from __future__ import annotations

import gzip
import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, MLPError, NotFoundError, StorageError
from jupyter_mlp.store import fingerprints, questions
from jupyter_mlp.store.workspace import Workspace

ROWS = pa.table({"k": [1, 2], "v": ["x", "y"]})
TEXTS = {
    "csv": "k,v\n1,x\n2,y\n",
    "tsv": "k\tv\n1\tx\n2\ty\n",
    "jsonl": '{"k": 1, "v": "x"}\n{"k": 2, "v": "y"}\n',
    "json": json.dumps([{"k": 1, "v": "x"}, {"k": 2, "v": "y"}], indent=1),
}


def rows(workspace: Workspace, ref: str) -> dict[str, list[Any]]:
    """The rows as pyiceberg reads them."""
    name, version = ref.removeprefix("table:").split("@")
    return workspace.lake.catalog.load_table(name).scan(snapshot_id=int(version)).to_arrow().sort_by("k").to_pydict()


@pytest.mark.parametrize("kind", TEXTS)
def test_text_files_plain_and_compressed(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    (tmp_path / f"plain.{kind}").write_text(TEXTS[kind])
    (tmp_path / f"packed.{kind}.gz").write_bytes(gzip.compress(TEXTS[kind].encode()))
    for name in (f"plain.{kind}", f"packed.{kind}.gz"):
        assert rows(workspace, mlp.write_table("t", str(tmp_path / name)).ref) == ROWS.to_pydict()


@pytest.mark.parametrize("frame", [ROWS, ROWS.to_pandas(), pl.DataFrame(ROWS.to_pydict())], ids=["arrow", "pandas", "polars"])
def test_frames(workspace: Workspace, frame: Any) -> None:
    assert rows(workspace, mlp.write_table("t", frame).ref) == ROWS.to_pydict()


def test_frames_without_rows_differ_by_their_columns(workspace: Workspace) -> None:
    first = mlp.write_table("t", pa.table({"k": pa.array([], pa.int64())}))
    other = mlp.write_table("t", pa.table({"v": pa.array([], pa.string())}))
    assert not other.reused and [name for name, _ in other.columns] == ["v"]
    assert mlp.write_table("t", pa.table({"v": pa.array([], pa.string())})).reused
    assert first.content != other.content


def years(folder: Path) -> None:
    for year in (2012, 2013):
        place = folder / f"year={year}" / "carrier=UA"
        place.mkdir(parents=True)
        pq.write_table(pa.table({"k": [year - 2000]}), place / "part-0.parquet")
    (folder / "_SUCCESS").touch()


WHOLE = {"k": [12, 13], "year": [2012, 2013], "carrier": ["UA", "UA"]}


@pytest.mark.parametrize("end", ["", "/", "/*/*/*.parquet", "/**/*.parquet"])
def test_names_of_folders_are_columns(workspace: Workspace, tmp_path: Path, end: str) -> None:
    years(tmp_path / "state=NY" / "flights")  # what lies above the named folder is no column
    assert rows(workspace, mlp.write_table("t", f"{tmp_path}/state=NY/flights{end}").ref) == WHOLE


def test_memory_and_zip(workspace: Workspace, tmp_path: Path) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    for year in (2012, 2013):
        with fsspec.open(f"{folder}/year={year}/carrier=UA/p.parquet", "wb") as file:
            pq.write_table(pa.table({"k": [year - 2000]}), file)
    first = mlp.write_table("t", folder)
    assert rows(workspace, first.ref) == WHOLE
    used = workspace.activities.recent()[0].used
    assert [ref.kind for ref in used] == ["file", "file"] and used[0].name.startswith("memory://")
    years(tmp_path / "flights")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in (tmp_path / "flights").rglob("*.parquet"):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("more/a.csv", TEXTS["csv"])
    assert rows(workspace, mlp.write_table("z", f"zip://flights::{tmp_path}/all.zip").ref) == WHOLE
    assert rows(workspace, mlp.write_table("c", f"zip://more/*.csv::{tmp_path}/all.zip").ref) == ROWS.to_pydict()


def test_files_with_other_columns_lose_none(workspace: Workspace, tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"k": pa.array([2**40]), "v": ["y"]}), tmp_path / "b.parquet")
    assert rows(workspace, mlp.write_table("t", str(tmp_path)).ref) == {"k": [1, 2**40], "v": [None, "y"]}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.csv": "k\n1\n", "b.json": "{}"}, "several formats: csv, json"),
        ({"a.csv": "k\n1\n", "b.csv": "k\nx\n"}, "k has incompatible types"),
        ({"a.parquet": "nothing"}, "cannot be read as parquet"),
        ({"a.json": "[1, 2"}, "cannot be read as json"),
        ({"a.json": "[1, 2]"}, "its array holds something else than objects"),
        ({"a.csv": "k,v\n1,2\n3\n"}, "* cannot be read as csv: CSV parse error: Row #3: Expected 2 columns, got 1: 3."),
        ({"a.csv": ""}, "* cannot be read as csv: CSV parse error: Empty CSV file"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(workspace: Workspace, tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError) as error:
        mlp.write_table("t", str(tmp_path / "*"))
    assert said in error.value.message and "\n" not in error.value.message and error.value.hint
    assert workspace.lake.names() == []


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"k": [1, "x"]}), "column k"),
        (pd.DataFrame({"k": [object()]}), "column k"),
        (pd.DataFrame({"k": [1 + 2j]}), "column k"),
        (pd.DataFrame([[1, 2]], columns=["k", "k"]), "Duplicate column names"),
        (pd.DataFrame(), "no columns"),
        ("", "No file was named"),
    ],
)
def test_what_cannot_become_a_table_is_said_in_a_sentence(workspace: Workspace, frame: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        mlp.write_table("t", frame)
    assert said in error.value.message and "\n" not in error.value.message and error.value.hint
    assert workspace.lake.names() == []


def test_texts_in_another_encoding_are_not_taken_for_bytes(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("k,v\n1,Zürich\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="is not UTF-8 in the column v") as error:
        mlp.write_table("t", str(tmp_path / "a.csv"))
    assert "encoding='latin-1'" in error.value.hint


def test_places_that_are_none(workspace: Workspace, tmp_path: Path) -> None:
    for place, kind in (
        ("nowhere://x/y.csv", InvalidInputError),
        (f"zip://*.csv::{tmp_path}/none.zip", MLPError),
        ("memory://no", NotFoundError),
    ):
        with pytest.raises(kind) as error:
            mlp.write_table("t", place)
        assert error.value.hint  # type: ignore[attr-defined]


class Web:
    """A filesystem whose paths are URLs, as fsspec's http is."""

    protocol = ("http", "https")

    def info(self, path: str) -> dict[str, Any]:
        return {"size": 1, "name": path}


def test_no_record_holds_a_password_or_a_key(workspace: Workspace) -> None:
    urls = [f"https://{who}host/a/x.csv{query}" for who in ("", "ann:secret@") for query in ("", "?sig=TOKEN")]
    made = {fingerprints.fingerprint(Web(), url) for url in urls}
    assert {unquote(ref.name) for ref in made} == {"https://host/a/x.csv"}
    assert len(made) == 2  # another query may be other rows
    for text, said in (
        ("zip://x.csv::https://ann:secret@host/a.zip?sig=TOKEN", "zip://x.csv::https://host/a.zip"),
        ("404, url='https://ann@host/a.csv?sig=TOKEN' of https://b:c@host", "404, url='https://host/a.csv' of https://host"),
        ("data/a?.csv", "data/a?.csv"),
    ):
        assert fingerprints.public(text) == said
    with pytest.raises(MLPError) as error:
        mlp.write_table("t", "memory://ann:secret@host/none.csv?sig=TOKEN")
    assert "secret" not in str(error.value) and "TOKEN" not in str(error.value)


def test_files_in_place_are_not_copied(workspace: Workspace, tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "a.parquet")
    made = mlp.write_table("t", str(tmp_path / "a.parquet"), in_place=True)
    assert workspace.lake.files("lake.t", made.ref.split("@")[1]) == [str(tmp_path / "a.parquet")]
    assert rows(workspace, made.ref) == ROWS.to_pydict() and not list(workspace.root.rglob("*.parquet"))
    assert mlp.write_table("t", str(tmp_path / "a.parquet"), in_place=True).reused
    more = mlp.write_table("t", pa.table({"k": [3], "v": ["z"]}), append=True)
    assert more.rows == 3 and rows(workspace, more.ref)["k"] == [1, 2, 3]
    fingerprints.check(workspace, "lake.t", more.ref.split("@")[1])


def other_rows_same_length_and_time(path: Path) -> None:
    before = path.stat()
    pq.write_table(pa.table({"k": [1, 7], "v": ["x", "y"]}), path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: pq.write_table(pa.table({"k": [9], "v": ["x"]}), path), "a.parquet changed since version {first} of lake.t"),
        (other_rows_same_length_and_time, "a.parquet changed since version {first} of lake.t"),
        (Path.unlink, "a.parquet is gone"),
    ],
    ids=["rewritten", "rewritten with its old time", "removed"],
)
def test_a_later_change_is_named_at_the_next_read(workspace: Workspace, tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(ROWS, path)
    first = mlp.write_table("t", str(path), in_place=True)
    mlp.write_table("t", pa.table({"k": [3], "v": ["z"]}), append=True)  # the file is still in the next version
    questions.ask(workspace, "SELECT * FROM lake.t", {})
    change(path)
    with pytest.raises(StorageError) as error:
        questions.ask(workspace, "SELECT * FROM lake.t", {})
    assert said.format(first=first.ref.split("@")[1]) in error.value.message
    assert f"%mlp_table lake.t {path} --in-place" in error.value.hint
    if path.exists():
        again = mlp.write_table("t", str(path), in_place=True)
        questions.ask(workspace, "SELECT * FROM lake.t", {})
        assert rows(workspace, again.ref) == pq.read_table(path).to_pydict()


def test_a_change_is_named_when_the_version_that_took_the_file_is_forgotten(workspace: Workspace, tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(ROWS, tmp_path / f"{name}.parquet")
    first = mlp.write_table("t", str(tmp_path / "a.parquet"), in_place=True)
    second = mlp.write_table("t", str(tmp_path / "b.parquet"), in_place=True, append=True)
    mlp.forget(first.ref)
    fingerprints.check(workspace, "lake.t", str(second.reference.version))
    pq.write_table(ROWS.slice(1), tmp_path / "a.parquet")
    with pytest.raises(StorageError, match=r"a\.parquet changed since"):
        fingerprints.check(workspace, "lake.t", str(second.reference.version))


def test_a_file_in_place_that_no_record_knows_is_not_trusted(workspace: Workspace, tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "a.parquet")
    paths = [str(tmp_path / "a.parquet")]
    version = workspace.lake.commit("lake.t", ROWS.schema, paths, lying=True).snapshot
    with pytest.raises(StorageError, match="no record says what it was"):
        fingerprints.check(workspace, "lake.t", version)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "a.csv").write_text(TEXTS["csv"]), "Only Parquet files"),
        (years, "folders' names"),
        (lambda folder: pq.write_table(pa.table({"k": pa.array([1], pa.uint16())}), folder / "a.parquet"), "The column k is uint16"),
    ],
)
def test_what_cannot_stay_in_place(workspace: Workspace, tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path)
    with pytest.raises(InvalidInputError) as error:
        mlp.write_table("t", str(tmp_path), in_place=True)
    assert said in error.value.message and "Leave out --in-place" in error.value.hint
    with pytest.raises(InvalidInputError):
        mlp.write_table("t", pd.DataFrame({"k": [1]}), in_place=True)
    assert mlp.write_table("t", str(tmp_path)).rows > 0


def test_a_workspace_whose_path_has_spaces_and_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "my data = 100%20 é"
    monkeypatch.setenv("MLP_WORKSPACE", str(root))
    made = mlp.write_table("t", ROWS)
    more = mlp.write_table("t", ROWS, append=True)
    workspace = Workspace(root)
    assert workspace.lake.current("t") == more.ref.split("@")[1]
    assert rows(workspace, made.ref) == ROWS.to_pydict()
    assert all(os.path.exists(path) for path in workspace.lake.files("lake.t", more.ref.split("@")[1]))
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_what_is_stored_as_another_type_is_said(workspace: Workspace) -> None:
    given = {
        "tiny": pa.array([1], pa.int8()),
        "large": pa.array([1], pa.uint64()),
        "took": pa.array([1_000_000], pa.duration("us")),
        "none": pa.nulls(1),
        "half": pa.array([0.5], pa.float32()),
        "kind": pa.array(["a"]).dictionary_encode(),
        "many": pa.array([[1]], pa.list_(pa.int16())),
        "when": pa.array([0], pa.timestamp("ns", "Europe/Berlin")),
        "then": pa.array([0], pa.timestamp("ns")),  # these lose nothing, and read as they did
        "name": pa.array(["a"], pa.large_string()),
    }
    made = mlp.write_table("lake.odd", pa.table(given))
    assert made.notes == (
        "stored as the nearest type that a table has: tiny (int8) as int32, large (uint64) as int64, took (duration[us]) as int64, "
        "none (null) as text, kind (categories of text) as text, many (list<item: int16>) as list<item: int32>, "
        "when (timestamp[ns, tz=Europe/Berlin]) as timestamp[us, tz=UTC]",
    )
    assert made.notes[0] in repr(made) and made.to_dict()["notes"] == list(made.notes)
    assert mlp.write_table("lake.odd", pa.table(given)).notes == made.notes  # nothing was written, and it is still so
    assert mlp.write_table("lake.plain", ROWS).notes == ()
    wide = mlp.write_table("lake.plain", pa.table({"k": pa.array([3], pa.int8()), "v": ["z"]}), append=True)
    assert wide.notes == ("stored as the nearest type that a table has: k (int8) as int64",)
