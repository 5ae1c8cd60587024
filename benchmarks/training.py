"""One small training, as a notebook's model and as a plain script, for the rows about launch and step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

WIDTH, ROWS, BATCH = 64, 100_000, 1024

MODEL = """
import json, os, time
import lightning as L
import torch
from torch import nn


class Net(L.LightningModule):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
        self.marks = []

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def on_train_batch_end(self, outputs, batch, index):
        self.marks.append(time.time())

    def on_train_end(self):
        if not self.trainer.is_global_zero:
            return
        with open(os.environ["MLP_BENCH_MARKS"], "w") as file:
            json.dump(self.marks, file)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)
"""

PLAIN = """
import pyarrow.parquet as pq, torch, sys
torch.manual_seed(7)
table = pq.read_table(sys.argv[1])
x = torch.stack([torch.from_numpy(table.column(f"f{i:02d}").to_numpy().copy()) for i in range(64)], dim=1)
y = torch.from_numpy(table.column("label").to_numpy().copy())
order = torch.randperm(len(x))
batches = [(x[order[at:at + 1024]], y[order[at:at + 1024]]) for at in range(0, len(x), 1024)]
"""
PLAIN_LIGHTNING = (
    PLAIN
    + """
trainer = L.Trainer(max_epochs=1, accelerator="auto", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                    enable_model_summary=False)
trainer.fit(Net(64), torch.utils.data.DataLoader(batches, batch_size=None))
"""
)
PLAIN_TORCH = (
    "import json, os, time, torch\nfrom torch import nn\n"
    + PLAIN
    + """
device = "cuda" if torch.cuda.is_available() else "cpu"
net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1)).to(device)
optimizer, marks = torch.optim.SGD(net.parameters(), 0.01), []
for a, b in batches:
    a, b = a.to(device), b.to(device)
    optimizer.zero_grad()
    nn.functional.mse_loss(net(a).squeeze(-1), b).backward()
    optimizer.step()
    marks.append(time.time())
with open(os.environ["MLP_BENCH_MARKS"], "w") as file:
    json.dump(marks, file)
"""
)
PLAIN_DDP = (
    "import json, os, time, torch\nfrom torch import nn\nimport torch.distributed as dist\n"
    + PLAIN
    + """
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.set_num_threads(max(1, os.cpu_count() // dist.get_world_size()))
net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
model = nn.parallel.DistributedDataParallel(net)
optimizer, marks = torch.optim.SGD(model.parameters(), 0.01), []
for a, b in batches:
    a, b = a.chunk(2)[rank], b.chunk(2)[rank]
    optimizer.zero_grad()
    nn.functional.mse_loss(model(a).squeeze(-1), b).backward()
    optimizer.step()
    marks.append(time.time())
if rank == 0:
    with open(os.environ["MLP_BENCH_MARKS"], "w") as file:
        json.dump(marks, file)
dist.destroy_process_group()
"""
)


@contextmanager
def opened() -> Iterator[Mapping[str, Any]]:
    """Give {"ours", "two", "lightning", "torch", "torchrun"}: each trains once, "two" and "torchrun" with two processes.

    Each returns when it began and the times at which the steps ended.
    """
    import numpy as np
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder, "marks.json")
        os.environ.update(MLP_WORKSPACE=str(Path(folder, "workspace")), MLP_BENCH_MARKS=str(marks))
        import jupyter_mlp as mlp
        from jupyter_mlp.store import datasets
        from jupyter_mlp.store.workspace import current

        random = np.random.default_rng(0)
        columns = {f"f{i:02d}": random.standard_normal(ROWS, dtype=np.float32) for i in range(WIDTH)}
        table = pa.table({**columns, "label": random.standard_normal(ROWS, dtype=np.float32)})
        workspace = current()
        with workspace.activities.recording("query", name="rows") as draft:
            datasets.publish_table(workspace, draft, "rows", table)
        model = Path(folder, "net.py")
        model.write_text(MODEL)
        file = datasets.load(workspace, "rows").files[0]

        def ours(gpus: int = 1) -> tuple[float, list[float]]:
            begun = time.time()
            mlp.train(f"{model}:Net", data="rows", target="label", max_epochs=1, batch_size=BATCH, fresh=True, gpus=gpus)
            return begun, json.loads(marks.read_text())

        def script(code: str, *launcher: str) -> tuple[float, list[float]]:
            path = Path(folder, "script.py")
            path.write_text(code)
            begun = time.time()
            subprocess.run([sys.executable, *launcher, str(path), file], check=True, capture_output=True, cwd=folder)
            return begun, json.loads(marks.read_text())

        ours()  # the recipe is fitted once for a dataset version
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
        yield {
            "ours": ours,
            "two": lambda: ours(2),
            "lightning": lambda: script(MODEL + PLAIN_LIGHTNING),
            "torch": lambda: script(PLAIN_TORCH),
            "torchrun": lambda: script(PLAIN_DDP, *torchrun),
        }


def first_s(told: tuple[float, list[float]]) -> float:
    """Seconds from the submission to the end of the first step."""
    return told[1][0] - told[0]


def step_s(told: tuple[float, list[float]]) -> float:
    """Seconds of a steady step: the median of all but the first ten."""
    marks = told[1][10:]
    gaps = sorted(b - a for a, b in pairwise(marks))
    return gaps[len(gaps) // 2]
