"""What noting a cell costs in a kernel: which names it changed, in a namespace of two thousand; the same cell without it is taken off."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WHAT = "noting a cell in the kernel, of 2,000 names"
LIMIT, TARGET, LIMIT_S = None, None, 0.005
_NAMES, _CELLS = 2_000, 200
_EVENTS = ("pre_run_cell", "post_run_cell")


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds a cell with the extension's notes, less those without them."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(MLP_WORKSPACE=folder, IPYTHONDIR=folder)
        shell: Any = InteractiveShell.instance(config=Config(HistoryManager={"hist_file": ":memory:"}))
        shell.run_line_magic("load_ext", "jupyter_mlp")
        shell.run_cell("\n".join(f"name_{n} = {n}" for n in range(_NAMES)), store_history=True)
        noting = {name: list(shell.events.callbacks[name]) for name in _EVENTS}

        def a_cell(callbacks: Mapping[str, list[Any]]) -> float:
            for name in _EVENTS:
                shell.events.callbacks[name][:] = callbacks.get(name, [])
            begun = time.perf_counter()
            for _ in range(_CELLS):
                shell.run_cell("x = 1", store_history=True)
            return (time.perf_counter() - begun) / _CELLS

        yield {"ours": lambda: a_cell(noting) - a_cell({})}
