"""`make setup`: uv is told what pip is told on this machine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup.py"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, on a machine whose pip knows nothing yet."""
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    spec = importlib.util.spec_from_file_location("mlp_setup", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pips_files_and_variables_reach_uv(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\nextra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
        "find-links = /old\ncert = /ca.pem\n[install]\nfind-links = /wheels /more\n"
    )
    told = setup.for_uv(setup.of_pip(Path(sys.executable)))
    assert told["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert told["UV_INDEX"] == "https://two.example/simple https://three.example/simple"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert told["UV_FIND_LINKS"] == "/wheels,/more"
    assert told["SSL_CERT_FILE"] == "/ca.pem"
    monkeypatch.setenv("PIP_FIND_LINKS", "/from/the/environment")
    assert setup.for_uv(setup.of_pip(Path(sys.executable)))["UV_FIND_LINKS"] == "/from/the/environment"


def test_what_uv_was_told_itself_wins(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    assert setup.for_uv({"find-links": "/pips"})["UV_FIND_LINKS"] == "/mine"


def test_no_fitting_python_says_what_to_type(tmp_path: Path) -> None:
    done = subprocess.run(["make", "setup", "PYTHONS=/no/such/python"], cwd=SCRIPT.parents[1], capture_output=True, text=True)
    assert done.returncode != 0
    assert "make setup PYTHON=" in done.stderr
