"""The wheel: everything it needs is in it, and it works without the repository."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subprocess.run([sys.executable, ROOT / "scripts" / "labextension.py"], check=True)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_it_carries_every_module_and_the_migrations(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jupyter_mlp").rglob("*.py")}
    assert tracked <= names
    assert "jupyter_mlp/store/migrations/script.py.mako" in names
    assert {f"jupyter_mlp/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*") if path.is_file()} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]


def test_it_carries_the_jupyterlab_extension(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = "jupyter_mlp-0.1.0.data/data"
    assert f"{data}/etc/jupyter/jupyter_server_config.d/jupyter_mlp.json" in names
    shared = f"{data}/share/jupyter/labextensions/jupyter_mlp"
    assert {f"{shared}/package.json", f"{shared}/install.json", f"{shared}/schemas/jupyter_mlp/plugin.json"} <= names
    assert [name for name in names if name.startswith(f"{shared}/static/remoteEntry.")]
    assert not [name for name in names if "node_modules" in name]


def test_the_base_install_is_light(wheel: Path) -> None:
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    lines = zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
    always = " ".join(line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line)
    assert "sqlalchemy" in always
    assert not [heavy for heavy in ("torch", "pyspark", "pandas", "wandb", "jupyterlab", "papermill") if heavy in always]
    assert "License-Expression: Apache-2.0" in lines


@pytest.mark.slow
def test_it_runs_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Its own code only; CI also installs what it depends on and loads it into IPython."""
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "empty/bin/mlp", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
