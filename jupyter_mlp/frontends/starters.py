"""The notebooks to begin with: those of `templates/notebooks`, by name, for the cards of JupyterLab's launcher."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import NotFoundError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def _files() -> dict[str, Path]:
    """Every starter by its name; a name is looked up here and never becomes part of a path."""
    folders = (_PACKAGE / "templates" / "notebooks", _PACKAGE.parent / "templates" / "notebooks")  # of the wheel, of the repository
    folder = next((one for one in folders if one.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))} if folder else {}


def starters() -> dict[str, Any]:
    """Return name, title and first sentence of every starter."""
    return {"starters": [_told(name) for name in _files()]}


def starter(name: str) -> dict[str, Any]:
    """Return a starter as nbformat has it.

    Raises:
        NotFoundError: there is none of the name.
    """
    path = _files().get(name)
    if path is None:
        raise NotFoundError(f"There is no starter {name[:60]!r}.", nearest(name, _files()))
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _told(name: str) -> dict[str, str]:
    lines = "".join(starter(name)["cells"][0]["source"]).splitlines()
    says = next((line for line in lines[1:] if line.strip()), "")
    return {"name": name, "title": lines[0].lstrip("# ") if lines else name, "says": says}
