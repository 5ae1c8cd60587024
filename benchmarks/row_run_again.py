"""A notebook of some seconds run again when nothing changed, beside papermill, which runs all of it again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import notebooks

WHAT = "a run again, nothing changed | papermill"
LIMIT, TARGET, LIMIT_S = 0.1, 0.05, None
CELLS = [
    "import numpy as np, pandas as pd",
    "rng = np.random.default_rng(1)\nframe = pd.DataFrame({'k': rng.integers(0, 100, 4_000_000), 'v': rng.random(4_000_000)})",
    "means = frame.groupby('k').v.agg(['mean', 'std'])\nmeans.head()",
    "ordered = frame.sort_values('v')\nprint(len(ordered))",
]


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """The notebook has run once; imports of both sides are warm."""
    with tempfile.TemporaryDirectory() as folder, notebooks.environment(folder) as here:
        path = notebooks.written(here / "again.ipynb", CELLS)
        notebooks.ours(path)
        notebooks.papermill(path)
        yield {"ours": lambda: notebooks.ours(path, fresh=False), "peer": lambda: notebooks.papermill(path)}
