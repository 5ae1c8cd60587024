"""Peers of our training input: each reads the same Parquet files as torch batches, in its own order, in a process of its own.

PYTHON input_peers.py NAME SECONDS FILE...      prints rows a second, from the second batch on
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH, FEATURES = 1024, 32
NAMES = [f"f{i:02d}" for i in range(FEATURES)]
PACKAGE = {"DataLoader": "torch", "Ray Data": "ray", "litdata": "litdata"}  # others: datasets


def installed() -> dict[str, str]:
    """Interpreter of each peer that is installed."""
    from peers import python_of

    found = {name: python_of(PACKAGE.get(name, "datasets")) for name in READERS}
    return {name: python for name, python in found.items() if python}


def rate(name: str, python: str, files: list[str], seconds: float) -> float:
    """Rows a second of a peer."""
    argv = [python, __file__, name, str(seconds), *files]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "TQDM_DISABLE": "1"}
    told = subprocess.run(argv, env=quiet, capture_output=True, text=True, check=False)
    if told.returncode:
        raise RuntimeError(f"{name}: {told.stderr[-800:]}")
    return float(told.stdout.split()[-1])


def _pandas(files: list[str]) -> Iterator[int]:
    """A DataLoader over the rows of a frame, as beginners write it."""
    import pandas as pd
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Rows(Dataset[Any]):
        def __init__(self, frame: Any) -> None:
            self.frame = frame

        def __len__(self) -> int:
            return len(self.frame)

        def __getitem__(self, at: int) -> Any:
            row = self.frame.iloc[at].values
            return torch.tensor(row[:FEATURES], dtype=torch.float32), torch.tensor(row[FEATURES])

    for name in files:
        for x, _ in DataLoader(Rows(pd.read_parquet(name)), batch_size=BATCH):
            yield len(x)


def _ray(files: list[str]) -> Iterator[int]:
    import ray
    import torch

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    for part in ray.data.read_parquet(files).iter_torch_batches(batch_size=BATCH):
        yield len(torch.stack([part[name] for name in NAMES], dim=1))


def _stream(files: list[str]) -> Any:
    from datasets import load_dataset  # type: ignore[import-not-found, unused-ignore]

    return load_dataset("parquet", data_files=files, split="train", streaming=True)


def _datasets(files: list[str]) -> Iterator[int]:
    import torch

    for part in _stream(files).with_format("torch").iter(batch_size=BATCH):
        yield len(torch.stack([part[name] for name in NAMES], dim=1))


def _datasets_arrow(files: list[str]) -> Iterator[int]:
    """Its strongest form: tables out of the stream, made tensors by hand."""
    import numpy as np
    import torch

    for part in _stream(files).with_format("arrow").iter(batch_size=BATCH):
        yield len(torch.from_numpy(np.stack([part.column(i).to_numpy() for i in range(FEATURES)], axis=1)))


def _litdata(files: list[str]) -> Iterator[int]:
    """Its reader of Parquet, which wants an index beside the files."""
    import litdata  # type: ignore[import-not-found, unused-ignore]
    import torch
    from litdata.streaming.item_loader import ParquetLoader  # type: ignore[import-not-found, unused-ignore]

    folder = tempfile.mkdtemp(dir=Path(files[0]).parent)
    for name in files:
        os.link(name, Path(folder, Path(name).name))
    litdata.index_parquet_dataset(folder)
    data = litdata.StreamingDataset(folder, item_loader=ParquetLoader(), max_cache_size="25GB")
    for part in litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0):
        columns = list(part.values()) if isinstance(part, dict) else part
        yield len(torch.stack([column.to(torch.float32) for column in columns[:FEATURES]], dim=1))


READERS: dict[str, Callable[[list[str]], Iterator[int]]] = {
    "datasets, Arrow batches": _datasets_arrow,
    "datasets": _datasets,
    "litdata": _litdata,
    "Ray Data": _ray,
    "DataLoader": _pandas,
}


def _main() -> None:
    name, seconds, files = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    read = READERS[name](files)
    next(read)  # what starting costs is not counted
    begun, rows = time.perf_counter(), 0
    for got in read:
        rows += got
        if time.perf_counter() - begun > seconds:
            break
    print(rows / (time.perf_counter() - begun), flush=True)
    if name == "Ray Data":  # its processes would go on for a while beside what is measured next
        import ray

        ray.shutdown()
    os._exit(0)  # not waiting for threads that would read on


if __name__ == "__main__":
    _main()
