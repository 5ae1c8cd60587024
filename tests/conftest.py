"""Fixtures of all tests: a fresh workspace each, one warm Spark server for all, and no skips in CI."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from jupyter_mlp.store import gpus
from jupyter_mlp.store.workspace import Workspace, current

sys.path.insert(0, str(Path(__file__).parent))  # for what tests and proofs share: postgres.py, proof_writers.py

# On a fresh clone the first text strategy builds its table of characters, and a busy machine is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # tests that run side by side have warm servers of their own
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir(), f"mlp-{os.getuid()}-{worker}")
    runtime.mkdir(mode=0o700, exist_ok=True)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)


def pytest_xdist_auto_num_workers() -> int:
    """As many as this machine bears side by side: one for each core and each 8 GB, two at most."""
    return max(1, min(2, (os.cpu_count() or 1), int(psutil.virtual_memory().total / 8e9)))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that is the current one."""
    for name in ("MLP_PINS", "MLP_PARENT", "MLP_VERIFY", "MLP_REPLAY", "MLP_NOTEBOOK", "MLP_CONFIG", "MLP_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLP_WORKSPACE", str(tmp_path / "workspace"))
    return current()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A real Postgres server for all tests."""
    from postgres import running

    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def any_database(request: pytest.FixtureRequest, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's workspace keeps records and catalog in its folder, then in a new database of a Postgres."""
    if request.param == "postgres":
        monkeypatch.setenv("MLP_DATABASE", request.getfixturevalue("postgres").make())
    return str(request.param)


class Notebook:
    """A notebook in this process: IPython's own shell with the magics loaded, cell after cell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.cell("%load_ext jupyter_mlp")

    def cell(self, text: str) -> Any:
        """Run a cell and return its value; a cell that fails raises what it failed with."""
        result = self.shell.run_cell(text, store_history=True)
        if result.error_before_exec or result.error_in_exec:
            raise result.error_before_exec or result.error_in_exec
        return result.result


@pytest.fixture
def notebook(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A fresh notebook on an empty workspace."""
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    HistoryManager.outputs.clear()  # one dictionary for all shells of a process
    config = Config()
    config.HistoryManager.enabled = False
    yield Notebook(InteractiveShell.instance(config=config))
    InteractiveShell.clear_instance()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get("CI") == "true" and skipped and exitstatus == 0:
        reporter.ensure_newline()
        reporter.write_line(f"CI: {skipped} skipped, and what is not tested is not known to work.", red=True)
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What needs a GPU is all that a machine without one leaves out."""
    if not gpus.count():
        terminalreporter.write_line("No GPU on this machine: that a training on one does the same, and its step time, is not checked here.")
