"""Which modules travel with a training: those beside the notebook and of its own folders, none that was installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_mlp.notebook.capture import local_modules


def test_only_what_was_written_here_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, mine, installed = tmp_path / "notebook", tmp_path / "mine", tmp_path / "installed"
    for folder in (notebook, mine, installed / "thing", installed / "thing-1.0.dist-info"):
        folder.mkdir(parents=True)
    (notebook / "beside_nb.py").write_text("import elsewhere_nb")
    (mine / "elsewhere_nb.py").write_text("x = 1")
    (mine / "compiled_nb.so").write_bytes(b"\x7fELF\xb0")
    (mine / "compiled_nb.abi3.so").write_bytes(b"\x7fELF\xb0")
    (installed / "thing" / "__init__.py").write_text("")
    (installed / "single_nb.py").write_text("")
    monkeypatch.syspath_prepend(str(mine))
    monkeypatch.syspath_prepend(str(installed))
    found = local_modules("import beside_nb, thing, single_nb, compiled_nb, numpy, json", notebook)
    assert found == {"beside_nb.py": "import elsewhere_nb", "elsewhere_nb.py": "x = 1"}
