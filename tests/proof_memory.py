"""A training's memory does not grow with its dataset: each rank's peak over one epoch of a small set and of one of 5 GB.

python tests/proof_memory.py [--gb 5] [--ranks 1]      prints the figures; 1 when a promise is broken
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import jupyter_mlp as mlp
from jupyter_mlp.store import datasets
from jupyter_mlp.store.workspace import current

COLUMNS, BATCH = 32, 8192
SMALL_GB, LIMIT_GB, GROWTH = 0.5, 1.0, 1.1

NET = """
import resource
import lightning as L
import torch

class Net(L.LightningModule):
    def __init__(self, width):
        super().__init__()
        self.net = torch.nn.Linear(width, 1)

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.mse_loss(self(x), y)

    def on_train_end(self):
        print(f"peak of rank {self.global_rank}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} KB")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)
"""


def publish(name: str, gb: float) -> int:
    """Publish a dataset of so many GB of numbers, a file at a time; return its rows."""
    rows_a_file, files = 500_000, max(1, round(gb * 1e9 / (500_000 * (COLUMNS + 1) * 4)))
    random = np.random.default_rng(3)

    def write(folder: Path) -> Sequence[str]:
        paths: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            x = {f"x{column}": random.standard_normal(rows_a_file, dtype=np.float32) for column in range(COLUMNS)}
            paths.append(str(folder / f"part-{number:05d}.parquet"))
            pq.write_table(pa.table({**x, "y": x["x0"] * 2}), paths[-1], row_group_size=65_536, compression="none", use_dictionary=False)
        return paths

    workspace = current()
    with workspace.activities.recording("query", name=name) as draft:
        datasets.publish(workspace, draft, name, write)
    return files * rows_a_file


def peaks_gb(folder: Path, name: str, ranks: int) -> list[float]:
    """Train one epoch and return the most memory that each rank had."""
    (folder / "net.py").write_text(NET)
    run = mlp.train(
        f"{folder / 'net.py'}:Net", data=name, target="y", gpus=ranks, max_epochs=1, batch_size=BATCH, fresh=True, checkpoint_every=0
    )
    assert run.state == "finished", run.logs()[-2000:]
    return [int(kilobytes) / 1e6 for kilobytes in re.findall(r"peak of rank \d+: (\d+) KB", run.logs())]


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="memory of a rank, over a small set and a large one")
    parser.add_argument("--gb", type=float, default=5.0)
    parser.add_argument("--ranks", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlp-memory-") as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        found = {}
        for name, gb in (("small", SMALL_GB), ("large", given.gb)):
            rows = publish(name, gb)
            begun = time.monotonic()
            found[name] = peaks_gb(Path(folder), name, given.ranks)
            shown = ", ".join(f"{peak:.2f}" for peak in found[name])
            print(f"{gb} GB, {rows:,} rows: {shown} GB at most a rank, {time.monotonic() - begun:.0f} s", flush=True)
    growth = max(found["large"]) / max(found["small"])
    kept = len(found["large"]) == given.ranks and max(found["large"]) <= LIMIT_GB and growth <= GROWTH
    print(f"the large set takes {growth:.2f} of the small one's memory (limits {LIMIT_GB} GB, {GROWTH}): {'kept' if kept else 'BROKEN'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
