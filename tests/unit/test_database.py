"""The database of a workspace: where it may be, what is said when it cannot be used, and that no password is ever shown."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core import config
from jupyter_mlp.core.errors import InvalidInputError, StorageError
from jupyter_mlp.store import servers, sqlite_errors
from jupyter_mlp.store.workspace import Workspace


def test_a_workspace_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StorageError) as error:
        Workspace(blocked / "ws").activities.recent()
    assert error.value.hint


def test_records_and_catalog_are_in_the_database_and_not_in_the_folder(
    workspace: Workspace, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLP_DATABASE", postgres.make())
    table = mlp.write_table("lake.numbers", pa.table({"n": [1, 2, 3]}))
    assert not list(workspace.root.rglob("*.db"))
    elsewhere = Workspace(workspace.root)
    assert elsewhere.lake.names() == ["lake.numbers"]
    assert f"table:lake.numbers@{elsewhere.lake.current('lake.numbers')}" == table.ref
    assert [activity.kind for activity in elsewhere.activities.recent()] == ["table"]


@pytest.mark.usefixtures("any_database")
def test_what_is_read_together_is_of_one_moment(workspace: Workspace) -> None:
    mlp.write_table("lake.numbers", pa.table({"n": [1]}))
    with workspace.database.transaction() as connection:
        before = connection.execute("SELECT id FROM activities")
        mlp.write_table("lake.numbers", pa.table({"n": [2]}))  # by another connection
        edges = connection.execute("SELECT DISTINCT activity FROM edges")
    assert {row["id"] for row in before} == {row["activity"] for row in edges}
    assert len(workspace.activities.recent()) == 2


def test_no_password_in_files_records_messages_or_logs(
    workspace: Workspace, postgres: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from postgres import PASSWORD

    caplog.set_level(logging.DEBUG)
    url = postgres.make()
    monkeypatch.setenv("MLP_DATABASE", url)
    mlp.write_table("lake.numbers", pa.table({"n": [1, 2, 3]}))
    said = [repr(workspace.settings), repr(mlp.doctor()), str(mlp.doctor().to_dict()), caplog.text]
    said += [str(activity.to_dict()) for activity in workspace.activities.recent()]
    for wrong in (
        url.replace(PASSWORD, PASSWORD + "-old"),
        url + "_gone",
        url.replace("postgresql", "mysql"),
        url.replace("@127", "@127:x"),
    ):
        monkeypatch.setenv("MLP_DATABASE", wrong)
        with pytest.raises((StorageError, InvalidInputError)) as error:
            Workspace(workspace.root).activities.recent()
        said += [str(error.value), error.value.hint]
    assert "127.0.0.1" in said[1] and "mlp@" in said[1]
    assert not [text for text in said if PASSWORD in text]
    assert not [path for path in workspace.root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


def test_a_server_that_is_gone_is_said_in_two_lines(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_DATABASE", "postgresql://ann@127.0.0.1:9/mlp")
    with pytest.raises(StorageError) as error:
        mlp.write_table("lake.numbers", pa.table({"n": [1]}))
    assert "cannot be reached" in error.value.message and "`database`" in error.value.hint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:pw@host:5432/mlp?sslmode=require", "postgresql://ann@host:5432/mlp"),
        ("postgresql://ann:p@w@host/mlp", "postgresql://ann@host/mlp"),
        ("postgres:///mlp", "postgres:///mlp"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert servers.public(url) == shown


def test_the_setting_comes_from_file_or_environment(tmp_path: Path) -> None:
    (tmp_path / "mlp.toml").write_text('database = "postgresql://file/mlp"\n')
    assert config.load(tmp_path, {}).database == "postgresql://file/mlp"
    assert config.load(tmp_path, {"MLP_DATABASE": "postgresql://env/mlp"}).database == "postgresql://env/mlp"


def spoil(workspace: Workspace, fault: str) -> Any:
    """Let the lake's catalog be of no use; return what must be kept for as long as it shall be."""
    path = workspace.root / "lake" / "catalog.db"
    if fault == "busy":
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        return holder
    path.unlink()
    if fault == "unreadable":
        path.mkdir()  # root may open every file, but not this
    else:
        path.write_bytes(b"not a database " * 100)
    return None


@pytest.mark.parametrize(("fault", "said"), [("busy", "was busy for 0 s"), ("unreadable", "cannot be written"), ("damaged", "is damaged")])
@pytest.mark.parametrize(
    "cell",
    [
        "%%mlp_data trips\nSELECT * FROM lake.numbers",
        "%mlp_table lake.numbers other.csv",
        "%mlp_table lake.new other.csv",
        "%mlp_forget lake.numbers",
        "import jupyter_mlp as mlp; mlp.compact('lake.numbers')",
    ],
)
def test_a_catalog_of_no_use_is_said_in_two_lines(
    notebook: Any, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str, cell: str
) -> None:
    monkeypatch.setattr(sqlite_errors, "BUSY_S", 0.05)
    mlp.write_table("lake.numbers", pa.table({"n": [1, 2, 3]}))
    (tmp_path / "other.csv").write_text("n\n4\n")
    kept = spoil(workspace, fault)
    with pytest.raises(StorageError) as error:
        notebook.cell(cell)
    assert said in error.value.message and "catalog" in error.value.message and error.value.hint
    assert str(workspace.root) in error.value.message
    sick = [check for check in mlp.doctor().checks if not check.ok]
    assert [check.name for check in sick] == ["lake"] and said in sick[0].found
    with pytest.raises(StorageError, match=said):
        Workspace(workspace.root).lake.catalog  # noqa: B018  # opening it is what fails
    notebook.cell("%mlp_status")  # it reads the records alone
    if kept is not None:
        kept.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("database or disk is full", "The disk is full"),
        ("attempt to write a readonly database", "cannot be written"),
        ("odd", "failed: odd"),
    ],
)
def test_what_sqlite_refuses_names_the_file_and_what_to_do(text: str, said: str) -> None:
    error = sqlite_errors.plain(sqlite3.OperationalError(text), "The lake's catalog", Path("/lake/catalog.db"))
    assert isinstance(error, StorageError) and said in error.message and "/lake/catalog.db" in error.message and error.hint
