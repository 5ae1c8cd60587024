"""Training input over HTTP beside the same files on this machine: seconds for all rows as shuffled torch batches.

Both are what a rank does in training, by the same code, with the files pinned; the server is a process of this machine with byte ranges.
The floor fetches the same bytes over the same connection and decodes nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import row_input

WHAT = "rows as shuffled torch batches, HTTP | files here"
LIMIT, TARGET, LIMIT_S = 2.0, 1.1, None
_SERVER = Path(__file__).resolve().parents[1] / "tests" / "file_server.py"


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """The files of `row_input`, and a server for them."""
    import torch

    from jupyter_mlp.store import batches, filesystems

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = row_input.written(Path(folder), row_input.ROWS)
        plan, recipe = row_input.planned(files)
        server = subprocess.Popen([sys.executable, str(_SERVER), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None and server.stdin is not None
        try:
            address = server.stdout.readline().strip()
            urls = [f"{address}/{Path(path).name}" for path in files]
            pins = {url: filesystems.stamp(*filesystems.opened(url)) for url in urls}
            there = batches.split(urls, recipe, 0.0, 7, pins)
            yield {
                "ours": lambda: row_input.ours_s(there, recipe),
                "peer": lambda: row_input.ours_s(plan, recipe),
                "floor": lambda: fetched_s(urls),
            }
        finally:
            server.stdin.close()
            server.wait()


def fetched_s(urls: list[str]) -> float:
    """Return the seconds that fetching the files takes, four megabytes at a time and several at once."""
    from jupyter_mlp.store import filesystems

    begun = time.perf_counter()
    for url in urls:
        system, path = filesystems.opened(url)
        size = int(system.info(path)["size"])
        starts = list(range(0, size, 2**22))
        system.cat_ranges([path] * len(starts), starts, [min(start + 2**22, size) for start in starts], on_error="raise")
    return time.perf_counter() - begun
