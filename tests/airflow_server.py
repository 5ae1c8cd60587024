"""Airflow in an environment of its own, made once and kept beside the suite's other data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("apache-airflow==3.3.2", "hera==7.1.0")  # hera: Argo's own models, to read what is written for it
_NO_EXAMPLES = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def environment() -> Path:
    """The environment, installed where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jupyter_mlp"
    place = cache / "-".join(one.replace("==", "-") for one in PACKAGES)
    if not (place / "ready").exists():
        shutil.rmtree(place, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(place)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), *PACKAGES], check=True)
        _run(place, place / "home", "db", "migrate")
        (place / "ready").touch()
    return place


def dags_test(dags: Path, home: Path, dag: str) -> subprocess.CompletedProcess[str]:
    """Run a DAG from beginning to end, as `airflow dags test` does."""
    place = environment()
    shutil.copytree(place / "home", home)
    return _run(place, home, "dags", "test", dag, "2026-02-01", AIRFLOW__CORE__DAGS_FOLDER=str(dags))


def _run(place: Path, home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **_NO_EXAMPLES, "AIRFLOW_HOME": str(home), **more}
    told["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/airflow.db"
    return subprocess.run([place / "bin" / "airflow", *words], env=told, capture_output=True, text=True, timeout=250)
