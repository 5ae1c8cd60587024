"""Fixtures of all tests: a fresh workspace each, one warm Spark server for all, and no skips in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jupyter_mlp.store.workspace import Workspace, current

# On a fresh clone the first text strategy builds its table of characters, and a busy machine is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that is the current one."""
    for name in ("MLP_PINS", "MLP_PARENT", "MLP_VERIFY", "MLP_REPLAY", "MLP_NOTEBOOK", "MLP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLP_WORKSPACE", str(tmp_path / "workspace"))
    return current()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get("CI") == "true" and skipped and exitstatus == 0:
        reporter.ensure_newline()
        reporter.write_line(f"CI: {skipped} skipped, and what is not tested is not known to work.", red=True)
        session.exitstatus = 1
