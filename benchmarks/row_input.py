"""Training input: seconds for all rows of a Parquet set as torch batches, shuffled and resumable, beside decoding them on one thread.

The shape is that of the peers' measurements: 1.1 million rows of 33 float32 in 8 zstd files, batches of 1,024.
Ours is what a rank does in training: the plan, the recipe's features, the windows' shuffle, the copy into torch's memory.
The floor is the same decode on all cores. The peers of `input_peers.py` that are installed are named with their ratio; they do not shuffle.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import input_peers

WHAT = "rows as shuffled torch batches | 1-thread decode"
LIMIT, TARGET, LIMIT_S = 1 / 0.9, 1 / 1.3, None
ROWS, COLUMNS, FILES, GROUP, BATCH = 1_100_000, 32, 8, 65_536, 1024
SET, PEER_S = ROWS // FILES * FILES, 3.0
_told: dict[str, list[float]] = {}


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """The files in the page cache, each side reading all of them."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = written(Path(folder), ROWS)
        plan, recipe = planned(files)
        for _ in ours(plan, recipe):
            pass

        def one() -> float:
            took = ours_s(plan, recipe)
            for name, python in input_peers.installed().items():
                _told.setdefault(name, []).append(took / (SET / input_peers.rate(name, python, files, PEER_S)))
            return took

        yield {"ours": one, "peer": lambda: timed(lambda: decode(files, False)), "floor": lambda: timed(lambda: decode(files, True))}


def note() -> str:
    """Say how much faster ours is than each peer that is installed, in the same rounds."""
    found = [f"{1 / statistics.median(ratios):.1f} times {name}" for name, ratios in _told.items()]
    absent = [name for name in input_peers.READERS if name not in _told]
    return f"ours gives {', '.join(found)}" + (f"; not installed: {', '.join(absent)}" if absent else "")


def written(folder: Path, rows: int) -> list[str]:
    """Write the set and return its files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random, files = np.random.default_rng(0), []
    for number in range(FILES):
        names = [*(f"f{i:02d}" for i in range(COLUMNS)), "label"]
        data = {name: random.standard_normal(rows // FILES, dtype=np.float32) for name in names}
        files.append(str(folder / f"part-{number:05d}.parquet"))
        pq.write_table(pa.table(data), files[-1], row_group_size=GROUP, compression="zstd")
    return files


def planned(files: list[str]) -> tuple[Any, Any]:
    """Return plan and fitted recipe, as a training job makes them."""
    import pyarrow.parquet as pq

    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.store import batches

    first = pq.ParquetFile(files[0])
    recipe = Recipe.infer(first.schema_arrow, "label").fit(first.iter_batches(20_000))
    return batches.split(files, recipe, 0.0, 7), recipe


def ours(plan: Any, recipe: Any, epoch: int = 0) -> Iterator[int]:
    """Yield the rows of each batch that a rank gets."""
    from jupyter_mlp.backends.lightning import Batches
    from jupyter_mlp.store.batches import TRAIN
    from jupyter_mlp.store.shares import Share

    data = Batches(plan, recipe, TRAIN, Share(1, BATCH), 0)
    data.epoch = epoch
    for x, y in data:
        yield len(x) if y.numel() else 0


def ours_s(plan: Any, recipe: Any) -> float:
    """Return the seconds of an epoch; every row must have come."""
    begun = time.perf_counter()
    rows = sum(ours(plan, recipe))
    assert rows == plan.rows("train"), f"{rows} rows of {plan.rows('train')}"
    return time.perf_counter() - begun


def decode(files: list[str], threads: bool) -> Iterator[int]:
    """Decode the columns and throw them away."""
    import pyarrow.parquet as pq

    for name in files:
        with pq.ParquetFile(name) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=threads).num_rows


def timed(read: Callable[[], Iterator[int]]) -> float:
    """Return the seconds that reading everything takes, per the rows of the set."""
    begun = time.perf_counter()
    rows = sum(read())
    return (time.perf_counter() - begun) * SET / rows
