"""Fixtures of all tests: a fresh workspace each, one warm Spark server for all, and no skips in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_mlp.store.workspace import Workspace, current


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """An empty workspace that is the current one."""
    for name in ("MLP_PINS", "MLP_PARENT", "MLP_VERIFY", "MLP_REPLAY", "MLP_NOTEBOOK", "MLP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLP_WORKSPACE", str(tmp_path / "workspace"))
    yield current()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1
