"""Notebooks for the rows about runs, and what runs them: papermill, a bare nbclient, ours; each in this process's environment."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

logging.getLogger("papermill").setLevel(logging.ERROR)


@contextmanager
def environment(folder: str) -> Iterator[Path]:
    """A workspace of its own, and a kernel that finds this package."""
    before = dict(os.environ)
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    os.environ.update(MLP_WORKSPACE=str(Path(folder, "workspace")), PYTHONPATH=paths, IPYTHONDIR=str(Path(folder, "ipython")))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        yield Path(folder)
    finally:
        os.environ.clear()
        os.environ.update(before)


def small_cells(count: int) -> list[str]:
    """Cells that do little and show something, each after the one before."""
    return ["x = 0", *(f"x = x + {at}\nprint('cell {at}', x)" for at in range(count - 1))]


def written(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook of these cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells], metadata=kernel), path)
    return path


def papermill(path: Path) -> float:
    """Run it with papermill as it is."""
    import papermill as peer

    begun = time.perf_counter()
    peer.execute_notebook(str(path), str(path.with_suffix(".papermill.ipynb")), progress_bar=False, kernel_name="python3")
    return time.perf_counter() - begun


def bare(path: Path) -> float:
    """Run it with nbclient alone, which writes nothing down."""
    from nbclient import NotebookClient

    node: Any = nbformat.read(path, as_version=4)
    begun = time.perf_counter()
    NotebookClient(node, kernel_name="python3").execute()
    return time.perf_counter() - begun


def ours(path: Path, fresh: bool = True) -> float:
    """Run it with `mlp run`."""
    import jupyter_mlp as mlp

    begun = time.perf_counter()
    mlp.run_notebook(path, fresh=fresh)
    return time.perf_counter() - begun
