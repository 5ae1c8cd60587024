"""Snapshots as files with the data inside: another machine, with nothing of ours, verifies them."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from conftest import Notebook
from models import ODD, make_model
from test_repeat import SETUP, shown, write

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, StorageError
from jupyter_mlp.frontends import cli
from jupyter_mlp.notebook.compare import IDENTICAL
from jupyter_mlp.store.workspace import Workspace, current

ROWS = pd.DataFrame({"month": [1, 2, 3], "value": [1.0, 2.0, 4.0], "day": pd.date_range("2026-01-01", periods=3, tz="UTC").as_unit("us")})


@pytest.fixture
def study(workspace: Workspace, tmp_path: Path) -> Path:
    """A notebook that read a table in two versions, one in place, a dataset of another notebook and a plain file."""
    folder = tmp_path / "here"
    (folder / "files").mkdir(parents=True)
    mlp.write_table("lake.t", ROWS)
    first = workspace.lake.current("lake.t")
    mlp.write_table("lake.t", ROWS.assign(value=ROWS.value * 10), append=True)
    ROWS.to_parquet(folder / "place.parquet")
    mlp.write_table("2026_lake.placed", folder / "place.parquet", in_place=True)
    mlp.query("SELECT month, value FROM lake.t WHERE month > :least", name="older", params={"least": 1})
    (folder / "files" / "names.csv").write_text("month,name\n1,January\n2,February\n")
    path = write(
        folder / "study.ipynb",
        SETUP,
        "%%mlp_data part\nSELECT t.month, t.value, p.day FROM lake.t JOIN 2026_lake.placed p ON t.month = p.month",
        f"%%mlp_data before\nSELECT count(*) AS n, sum(value) AS total FROM lake.t VERSION AS OF {first}",
        "import jupyter_mlp as mlp\nprint(mlp.dataset('older').ref)\nmlp.dataset('older').to_pandas()",
        "names = pd.read_csv('files/names.csv')\npart.to_pandas().merge(names, on='month').sort_values(['month', 'value'])",
        "print(before.to_pandas().n[0])",
        "%mlp_table lake.named files/names.csv",
        "%%mlp_data joined\nSELECT * FROM lake.t JOIN lake.named USING (month)",
        "print(joined.ref)",
    )
    return mlp.run_notebook(path, output=folder / "done.ipynb").notebook


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Another machine: an empty workspace, and neither the old one nor the notebook's folder."""
    (tmp_path / "workspace").rename(tmp_path / "gone")
    (tmp_path / "here").rename(tmp_path / "gone" / "here")
    monkeypatch.setenv("MLP_WORKSPACE", str(tmp_path / "there"))
    return current()


def members_of(file: Path) -> dict[str, tuple[bytes, int]]:
    """What an export holds: name -> bytes, and how they are packed."""
    with zipfile.ZipFile(file) as source:
        return {one.filename: (source.read(one), one.compress_type) for one in source.infolist()}


def written(file: Path, members: dict[str, tuple[bytes, int]]) -> Path:
    """An export with these members."""
    with zipfile.ZipFile(file, "w") as target:
        for name, (held, how) in members.items():
            target.writestr(name, held, how)
    return file


def test_a_file_with_its_data_is_verified_where_nothing_of_ours_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.mlp"
    assert cli.main(["snapshot", str(study), "--export", str(file), "--with-data", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    kinds = sorted(one.split(":")[0] for one in told["inside"])
    assert kinds == ["dataset", "files/names.csv", "table", "table", "table"] and told["outside"] == []
    assert "January" in shown(study)
    there = elsewhere(tmp_path, monkeypatch)
    said: list[dict[str, Any]] = []
    found = mlp.verify(str(file), progress=said.append)
    assert [cell.verdict for cell in found.cells] == [IDENTICAL] * 9, found
    assert "unpacking" in said[0]["text"] and next(one for one in said if "unpacking" not in one["text"])["share"] == 0.0, "then cells run"
    assert there.lake.names() == [] and not list((there.root / "scratch").glob("*")), "nothing of it stays"
    shutil.rmtree(tmp_path / "gone")
    assert cli.main(["verify", str(file)]) == 0


def test_data_that_is_gone_or_changed_is_said(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = mlp.snapshot(study)
    with pytest.raises(InvalidInputError, match="is a folder"):
        taken.export(tmp_path)
    with pytest.raises(StorageError) as no_place:
        taken.export("/proc/study.mlp")
    assert f"the snapshot itself is kept: mlp snapshot {taken.ref}" in no_place.value.hint
    bare = taken.export(tmp_path / "bare.mlp")
    assert bare.inside == () and len(bare.outside) == 5
    names = tmp_path / "here" / "files" / "names.csv"
    kept = names.read_text()
    names.write_text("month,name\n")
    with pytest.raises(StorageError, match=r"files/names\.csv is not what it was, and this snapshot read it"):
        taken.export(tmp_path / "study.mlp", with_data=True)
    names.write_text(kept)
    placed = tmp_path / "here" / "place.parquet"
    ROWS.head(1).to_parquet(placed)
    with pytest.raises(StorageError, match=r"place\.parquet changed since"):
        taken.export(tmp_path / "study.mlp", with_data=True)
    assert not (tmp_path / "study.mlp").exists()
    assert cli.main(["snapshot", str(study), "--with-data"]) == 1
    assert "--with-data says what goes into an exported file" in capsys.readouterr().err
    elsewhere(tmp_path, monkeypatch)
    with pytest.raises(StorageError, match="is gone, which this snapshot read") as refused:
        mlp.verify(str(bare.path))
    assert f"mlp snapshot {bare.ref} --export FILE --with-data" in refused.value.hint


def test_data_that_was_changed_or_lies_is_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = mlp.snapshot(study).export(tmp_path / "study.mlp", with_data=True).path
    elsewhere(tmp_path, monkeypatch)
    members = members_of(file)
    data = json.loads(members["data.json"][0])

    def forged(name: str, held: bytes) -> Path:
        return written(tmp_path / "forged.mlp", {**members, name: (held, members[name][1])})

    table = next(one for one in data["versions"] if one["ref"].startswith("table:"))
    kept = members[table["files"][0]][0]
    with pytest.raises(InvalidInputError, match=r"The data .* was changed"):
        mlp.verify(str(forged(table["files"][0], kept[:-40] + bytes(36) + kept[-4:])))
    junk = hashlib.sha256(b"no Parquet").hexdigest()
    for kind in ("table", "dataset"):
        digest = next(one["files"][0] for one in data["versions"] if one["ref"].startswith(kind))
        told = members["data.json"][0].replace(digest.encode(), junk.encode())
        others = {name: member for name, member in members.items() if name != digest}
        how = members["data.json"][1]
        made = written(tmp_path / "junk.mlp", {**others, "data.json": (told, how), junk: (b"no Parquet", members[digest][1])})
        with pytest.raises(InvalidInputError, match=r"cannot be read|do not fit"):
            mlp.verify(str(made))
    lies = [
        {"files": {"../evil.csv": table["files"][0]}},
        {"files": {"/root/evil.csv": table["files"][0]}},
        {"files": {"a/../../evil.csv": table["files"][0]}},
        {"versions": [{**table, "ref": "table:lake.t@../../evil"}]},
        {"versions": [{**table, "ref": "table:../evil@1"}]},
        {"versions": [{**table, "ref": "dataset:../../evil@abcdef0123"}]},
        {"versions": [{**table, "files": ["../../evil"]}]},
        {"versions": [{**table, "files": ["0" * 64]}]},
        {"versions": [{**table, "schema": "AAAA"}]},
        {"versions": [{**table, "schema": "not base64!"}]},
        {"versions": [{**table, "at_ms": "soon"}]},
        {"versions": 7},
        {"versions": [{"ref": 7}]},
    ]
    for lie in lies:
        with pytest.raises(InvalidInputError):
            mlp.verify(str(forged("data.json", json.dumps({**data, **lie}).encode())))
    assert not list(tmp_path.rglob("evil*")) and not list((current().root / "scratch").glob("*"))
    assert nbformat.read(tmp_path / "gone" / "here" / "done.ipynb", 4).cells


@pytest.mark.parametrize(
    "taking",
    [
        "import jupyter_mlp as mlp\nolder = mlp.dataset('older')",
        "import jupyter_mlp as m\nolder = m.dataset('older')",
        "from jupyter_mlp import dataset as get\nolder = get('older')",
    ],
)
def test_a_dataset_taken_by_name_is_pinned_as_it_was(workspace: Workspace, tmp_path: Path, notebook: Notebook, taking: str) -> None:
    def make(rows: int) -> str:
        made = mlp.query(f"SELECT id FROM range({rows})", name="older").ref
        workspace.activities.session.clear()  # another kernel made it
        return made

    first = make(3)
    path = write(tmp_path / "study.ipynb", SETUP, taking, "older.rows")
    done = mlp.run_notebook(path, output=tmp_path / "done.ipynb").notebook
    notebook.cell(taking)
    again = make(4)
    in_kernel, in_file = notebook.cell("%mlp_snapshot"), mlp.snapshot(done)
    for snap in (in_kernel, in_file):
        assert [str(ref) for ref in snap.inputs] == [first] != [again]
        assert mlp.verify(snap.ref).ok
    assert "4" in shown(mlp.run_notebook(path).notebook), "a run notices the new version"


@pytest.fixture
def judged(workspace: Workspace, tmp_path: Path) -> Path:
    """A notebook that only uses models: by an alias, by the name it was trained under, and one that is served from its source."""
    asked = "data=[{'dep_delay': 4.0, 'carrier': 'UA'}, {'dep_delay': None, 'carrier': 'AA'}]"
    (tmp_path / "here").mkdir()
    mlp.alias("champion", f"model:{make_model(workspace)}")
    make_model(workspace, constant=7.0, name="Always")
    odd = make_model(workspace, code=ODD)
    path = write(
        tmp_path / "here" / "study.ipynb",
        f"{SETUP}\nimport jupyter_mlp as mlp",
        f"mlp.predict('model:champion', {asked})",
        f"mlp.predict('Always', {asked})",
        f"print(mlp.predict('model:{odd[:8]}', {asked}).predictions)",
    )
    return mlp.run_notebook(path, output=tmp_path / "here" / "done.ipynb").notebook


def test_models_that_a_notebook_only_uses_go_with_it(
    judged: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = mlp.snapshot(judged)
    assert {ref.kind for ref in taken.inputs} == {"model"} and len(taken.inputs) == 3 and not taken.made
    mlp.alias("champion", "Always")
    assert mlp.verify(taken).ok, "the alias means what it meant"
    bare, file = taken.export(tmp_path / "bare.mlp"), taken.export(tmp_path / "study.mlp", with_data=True)
    assert bare.outside == file.inside == tuple(map(str, taken.inputs)) and file.outside == ()
    there = elsewhere(tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(StorageError, match=r"model:.* is gone, which this snapshot read"):
        mlp.verify(str(bare.path))
    found = mlp.verify(str(file.path))
    assert [cell.verdict for cell in found.cells] == [IDENTICAL] * 4, found
    assert there.activities.names("model") == [] and not there.models.exists(), "nothing of it stays"


def test_models_that_lie_are_refused(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = mlp.snapshot(judged).export(tmp_path / "study.mlp", with_data=True).path
    elsewhere(tmp_path, monkeypatch)
    members = members_of(file)
    data = json.loads(members["data.json"][0])
    one, other, *rest = data["versions"]
    lies = [
        [{**one, "ref": "model:../../evil"}, other],
        [{**one, "ref": f"{one['ref']}@1"}, other],
        [{**one, "ref": other["ref"]}, {**other, "ref": one["ref"]}],
        [{**one, "names": ["../evil", *one["names"][1:]]}, other],
        [{**one, "names": ["/root/evil", *one["names"][1:]]}, other],
        [{**one, "names": one["names"][1:]}, other],
        [{**one, "names": [one["names"][0]] * len(one["names"])}, other],
        [{**one, "names": 7}, other],
    ]
    for lie in lies:
        told = json.dumps({**data, "versions": [*lie, *rest]}).encode()
        made = written(tmp_path / "forged.mlp", {**members, "data.json": (told, members["data.json"][1])})
        with pytest.raises(InvalidInputError):
            mlp.verify(str(made))
    assert not list(tmp_path.rglob("evil*")) and not list((current().root / "scratch").glob("*"))


def test_a_models_code_takes_no_secret_along(workspace: Workspace, tmp_path: Path) -> None:
    model = make_model(workspace, code=ODD + "\nTOKEN = 'ghp_" + "a1B2" * 9 + "'\n")
    cell = f"import jupyter_mlp as mlp\nmlp.predict('model:{model}', data=[{{'dep_delay': 4.0, 'carrier': 'UA'}}])"
    taken = mlp.snapshot(mlp.run_notebook(write(tmp_path / "study.ipynb", cell), output=tmp_path / "done.ipynb").notebook)
    with pytest.raises(InvalidInputError, match=r"would carry a secret\. .*captured\.py of model:") as refused:
        taken.export(tmp_path / "study.mlp", with_data=True)
    assert "ghp_" not in str(refused.value) and not (tmp_path / "study.mlp").exists()
