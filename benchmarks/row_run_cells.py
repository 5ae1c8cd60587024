"""What a cell costs in a run with its journal: beside nbclient alone, which writes nothing down; and beside papermill in the note."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import notebooks

WHAT = "a cell of a run, recorded | nbclient alone"
LIMIT, TARGET, LIMIT_S = 1.3, 1.1, None
ROUNDS = 3
FEW, MANY = 50, 400
_seen: dict[str, list[float]] = {}


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds a cell, over what a notebook of five cells takes; 50 cells, and 400 for how it grows. Short ones are run three times."""
    with tempfile.TemporaryDirectory() as folder, notebooks.environment(folder) as here:
        paths = {count: notebooks.written(here / f"{count}.ipynb", notebooks.small_cells(count)) for count in (5, FEW, MANY)}

        def a_cell(run: Callable[..., float], name: str) -> Callable[[], float]:
            def measure() -> float:
                start = statistics.median(run(paths[5]) for _ in range(3))
                few = (statistics.median(run(paths[FEW]) for _ in range(3)) - start) / (FEW - 5)
                many = (run(paths[MANY]) - start) / (MANY - 5)
                _seen.setdefault(name + " few", []).append(few)
                _seen.setdefault(name + " many", []).append(many)
                return many

            return measure

        yield {
            "ours": a_cell(notebooks.ours, "ours"),
            "peer": a_cell(notebooks.bare, "nbclient"),
            "floor": a_cell(notebooks.papermill, "papermill"),
        }


def note() -> str:
    """How each grows from 50 to 400 cells."""
    told = {name: statistics.median(values) for name, values in _seen.items()}
    grown = []
    for name in ("ours", "nbclient", "papermill"):
        few, many = told[f"{name} few"], told[f"{name} many"]
        grown.append(f"{name} {few * 1000:.1f} -> {many * 1000:.1f} ms, x{many / few:.2f}")
    return f"a cell, {FEW} -> {MANY} cells (ours: x1.2 at most): " + "; ".join(grown) + "; the column floor is papermill"
