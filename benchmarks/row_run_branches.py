"""Two equal branches that have nothing to do with each other, at once, beside the same in one kernel after each other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import notebooks

WHAT = "two equal independent branches | papermill"
LIMIT, TARGET, LIMIT_S = 0.6, 0.55, None
ROUNDS = 3
WORK = "{0} = 0\nfor at_{0} in range({1}):\n    {0} = ({0} * 31 + at_{0}) % 1_000_003\nprint({0})"
TIMES = 120_000_000


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Some ten seconds of one core for each branch."""
    with tempfile.TemporaryDirectory() as folder, notebooks.environment(folder) as here:
        cells = [WORK.format(name, TIMES) for name in ("left", "right")]
        path = notebooks.written(here / "branches.ipynb", [*cells, "print(left + right)"])
        yield {"ours": lambda: notebooks.ours(path), "peer": lambda: notebooks.papermill(path)}
