"""What people type by mistake into cells: two lines each, and no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pyarrow as pa
import pytest
from conftest import Notebook

from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.frontends import cli


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of each kind that is not what is wanted."""
    folder = tmp_path / "here"
    (folder / "folder").mkdir(parents=True)
    (folder / "odd.sql").write_bytes(b"\xff\xfe SELECT")
    (folder / "good.csv").write_text("a\n1\n")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")]), folder / "ok.ipynb")
    return folder


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%mlp_data trips -f odd.sql", "odd.sql is no text in UTF-8."),
        ("%mlp_data trips -f folder", "folder cannot be read: Is a directory."),
        ("%%mlp_recipe 'a b'\nx: scale", "'a b' cannot name a recipe."),
        ("%mlp_run ok.ipynb --output folder", "folder is a folder."),
        ("%mlp_run ok.ipynb --output good.csv/out.ipynb", "out.ipynb cannot be written: "),
        ("%mlp_table lake.x ''", "No file was named."),
        ("%mlp_table 'my table' good.csv", "'my table' is not the name of a table."),
        ("%mlp_train Nett --data rows", "No cell that ran defines a class Nett."),
        ("%mlp_deploy Nett --to e --traffic 200", "200 is not from 0 to 100"),
        ("%mlp_snapshot good.csv", "good.csv is not a notebook"),
        ("%mlp_verify good.csv", "good.csv is not a snapshot"),
    ],
)
def test_two_lines(notebook: Notebook, files: Path, monkeypatch: pytest.MonkeyPatch, cell: str, said: str) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(MLPError) as error:
        notebook.cell(cell)
    assert said in error.value.message and error.value.hint
    assert error.value._render_traceback_() == [error.value.message, error.value.hint]


def test_a_deleted_folder_is_named(
    notebook: Notebook, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.shell.user_ns["rows"] = pa.table({"n": [1]})
    monkeypatch.chdir(files)
    shutil.rmtree(files)
    for cell in ("%mlp_snapshot --weak", "%mlp_table lake.x rows"):
        with pytest.raises(MLPError, match="The folder in which this runs was deleted") as error:
            notebook.cell(cell)
        assert "cd FOLDER" in error.value.hint
    capsys.readouterr()
    assert cli.main(["snapshot", "--weak"]) == 1 and capsys.readouterr().err.startswith("The folder in which this runs was deleted.\n")
    assert notebook.cell("%mlp_status").to_dict()["workspace"], "what needs no folder goes on"
