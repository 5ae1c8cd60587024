"""Varied notebooks and the example notebook: snapshots of them are verified on this machine, here and in an environment made for them.

python tests/proof_repeats.py [--only "a table"] [--example only]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
from varied import NOTEBOOKS

EXAMPLE = Path(__file__).resolve().parent.parent / "example_notebooks" / "00_quickstart.ipynb"
WHERE = {"here": False, "in an environment made for it": True}


def written(name: str, folder: Path) -> Path:
    """Write one of the notebooks into a folder of its own."""
    folder.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(cell) for cell in NOTEBOOKS[name]]
    node = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(node, folder / "notebook.ipynb")
    return folder / "notebook.ipynb"


def tried(path: Path) -> dict[str, str]:
    """Run a notebook, take a snapshot of what came out, verify it; where -> what was not the same."""
    import jupyter_mlp as mlp
    from jupyter_mlp.notebook.verdicts import GOOD

    done = path.with_name(f"{path.stem}-done.ipynb")
    mlp.run_notebook(path, output=done, fresh=True)
    snapshot = mlp.snapshot(done)
    found = {}
    for where, fresh in WHERE.items():
        told = mlp.verify(snapshot, fresh_environment=fresh)
        other = [f"cell {cell.number} {cell.verdict} ({cell.cause}) {cell.detail}" for cell in told.cells if cell.verdict not in GOOD]
        found[where] = "; ".join(other)
    return found


def main() -> int:
    """Try them all; 1 when one differs here, or more than one in twenty elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(NOTEBOOKS))
    parser.add_argument("--example", choices=("too", "only", "not"), default="too")
    given = parser.parse_args()
    same, tried_ = Counter[str](), 0
    with tempfile.TemporaryDirectory() as place:
        os.environ["MLP_WORKSPACE"] = str(Path(place, "workspace"))
        paths = {
            name: written(name, Path(place, str(at))) for at, name in enumerate(() if given.example == "only" else given.only or NOTEBOOKS)
        }
        if given.example != "not" and not given.only:
            copy = Path(place, "example", EXAMPLE.name)
            copy.parent.mkdir()
            copy.write_bytes(EXAMPLE.read_bytes())
            paths["the example notebook"] = copy
        for name, path in paths.items():
            begun = time.perf_counter()
            found = tried(path)
            tried_ += 1
            same.update(where for where, other in found.items() if not other)
            told = "; ".join(f"{where}: {other}" for where, other in found.items() if other)
            print(f"{name}: {told or 'the same'} ({time.perf_counter() - begun:.0f} s)", flush=True)
    for where in WHERE:
        print(f"{same[where]} of {tried_} notebooks gave the same again {where}")
    return int(same["here"] < tried_ or same["in an environment made for it"] < 0.95 * tried_)


if __name__ == "__main__":
    sys.exit(main())
