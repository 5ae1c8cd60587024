"""`kill -9` at random over workers, supervisor and kernel, and what it cost: nothing but time.

    undisturbed   the job once, on the same data with the same seed
    disturbed     the same job; again and again one of its processes, or the kernel that watches it, is killed
    then          state, weights, metric series and log must be what they were, to the bit and to the line

    python tests/proof_kills.py [--kills 100] [--seed 1] [--ranks 1] [--strategy fsdp]      prints the figures; 1 when a promise is broken

What is killed when comes from the seed. A job that ends before all kills are done is compared, and another one begun.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file

import jupyter_mlp as mlp
from jupyter_mlp.store import datasets, jobs, registry
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace, current

NET = """
import random, time
import lightning as L
import numpy as np
import torch
from torch import nn

class Net(L.LightningModule):
    def __init__(self, width, nap=0.0):
        super().__init__()
        self.nap, self.loss = nap, nn.L1Loss()
        self.net = nn.Sequential(nn.Linear(width, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, index):
        time.sleep(self.nap)
        x, y = batch
        loss = self.loss(self(x), y) * (1 + random.random() / 10 + np.random.random() / 10)
        self.log("mean_loss", loss, on_step=False, on_epoch=True)
        print(f"step {self.global_step} of epoch {self.current_epoch}: {loss.item():.9f}")
        return loss

    def on_train_batch_end(self, outputs, batch, index):
        print(f"after {self.global_step}")

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", self.loss(self(x), y))

    def on_train_epoch_end(self):
        print(f"epoch {self.current_epoch} ends")

    def configure_optimizers(self):
        found = torch.optim.Adam(self.parameters(), 1e-2)
        return {"optimizer": found, "lr_scheduler": torch.optim.lr_scheduler.StepLR(found, 2, 0.7)}
"""
# What a kernel does: shows the run as it is now, says so on one line, and waits.
KERNEL = """
import sys, time
begun = time.perf_counter()
import jupyter_mlp as mlp
run = mlp.run(sys.argv[1])
state, metrics, printed = run.state, run.metrics, run.logs()
attached = time.perf_counter() - begun
shown = repr(run)  # draws the curves too
print(state, attached, time.perf_counter() - begun, flush=True)
run.wait()
"""
STEPS_AN_EPOCH, EPOCHS, EVERY = 29, 6, 7


@dataclass
class Found:
    """What was seen: `wrong` in sentences, empty when every promise was kept."""

    killed: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    attempts: int = 0
    repeated: list[int] = field(default_factory=list)  # steps done once more after a kill
    attach_s: list[float] = field(default_factory=list)  # a new kernel: import, state, metrics, log
    drawn_s: list[float] = field(default_factory=list)  # the same and its card, curves drawn
    wrong: list[str] = field(default_factory=list)

    def figures(self) -> str:
        """Return the figures in a line each."""
        lines = [
            f"killed: {sum(self.killed.values())} ({', '.join(f'{count} {what}' for what, count in sorted(self.killed.items()))})",
            f"jobs: {self.jobs} submitted, {self.jobs} finished with the weights, metrics and log of the undisturbed one"
            if not self.wrong
            else f"jobs: {self.jobs}",
            f"attempts: {self.attempts}, {len(self.repeated)} of them from a checkpoint; "
            f"steps done once more: at most {max(self.repeated, default=0)}, with a checkpoint every {EVERY}",
            f"reattach in a new kernel, {len(self.attach_s)} times: {_spread(self.attach_s)}; "
            f"with its curves drawn: {_spread(self.drawn_s)}",
        ]
        return "\n".join([*lines, *self.wrong, "No promise is broken." if not self.wrong else f"{len(self.wrong)} promises are broken."])


class Kills:
    """One series of kills in a workspace of its own."""

    def __init__(self, folder: Path, kills: int, seed: int, ranks: int, nap_s: float = 0.03, strategy: str = "auto") -> None:
        os.environ["MLP_WORKSPACE"] = str(folder / "workspace")
        self._folder, self._workspace = folder, current()
        self._count, self._ranks, self._nap_s, self._strategy = kills, ranks, nap_s, strategy
        self._random = random.Random(seed)
        self._saved: list[tuple[float, int]] = []  # when something was killed, and the step of the newest checkpoint then
        self._kernel: subprocess.Popen[str] | None = None
        self.found = Found()
        (folder / "net.py").write_text(NET)
        publish_rows(self._workspace)

    def run(self) -> Found:
        """Do it all; every process that was started has ended afterwards."""
        straight = self._submit("undisturbed")
        _until(lambda: straight.state != "running", 300, straight)
        expected = _outcome(straight)
        try:
            while sum(self.found.killed.values()) < self._count and not self.found.wrong:
                self._one_job(expected)
        finally:
            self._close_kernel()
        return self.found

    def _one_job(self, expected: Mapping[str, Any]) -> None:
        run = self._submit("disturbed")
        self.found.jobs += 1
        self._saved = []
        folder = jobs.folder_of(self._workspace, run.id)
        self._open_kernel(run.ref)
        while run.state == "running" and sum(self.found.killed.values()) < self._count:
            if self._random.random() < 0.75:  # the others are killed while they start
                _until(lambda: _is_training(folder) or run.state != "running", 300, run)
            time.sleep(self._random.uniform(0.0, 1.5))
            self._kill_one(folder, run)
        _until(lambda: run.state != "running", 300, run)
        self._close_kernel()
        self._compare(run, folder, expected)

    def _submit(self, what: str) -> Any:
        return mlp.train(
            f"{self._folder / 'net.py'}:Net",
            data="rows",
            target="y",
            max_epochs=EPOCHS,
            batch_size=128,
            gpus=self._ranks,
            settings={"nap": self._nap_s},
            checkpoint_every=EVERY,
            strategy=self._strategy,
            retries=self._count + 1,
            detach=True,
            fresh=True,
        )

    def _kill_one(self, folder: RunFolder, run: Any) -> None:
        what = self._random.choice([*(f"worker {rank}" for rank in range(self._ranks)), "supervisor", "kernel"])
        if what == "kernel":
            self._killed_kernel(run)
            return
        pid, saved = _pid_of(folder, what), _newest_step(folder)
        if pid is None or not _killed(pid):
            return  # it is just being started again
        self.found.killed[what.split()[0]] += 1
        self._saved.append((time.time(), saved))
        state = run.state
        if state != "running" and folder.read("exit.json") is None:
            self.found.wrong.append(f"after the kill of the {what} the state is {state}: {run.error}")

    def _killed_kernel(self, run: Any) -> None:
        assert self._kernel is not None
        if self._kernel.poll() is None:
            self._kernel.kill()
            self._kernel.wait()
            self.found.killed["kernel"] += 1
        self._close_kernel()
        self._open_kernel(run.ref)

    def _open_kernel(self, ref: str) -> None:
        self._kernel = subprocess.Popen([sys.executable, "-c", KERNEL, ref], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._kernel.stdout is not None
        said = self._kernel.stdout.readline().split()
        if not said or said[0] not in ("running", "finished"):
            self.found.wrong.append(f"a new kernel was told {said or 'nothing'}")
        else:
            self.found.attach_s.append(float(said[1]))
            self.found.drawn_s.append(float(said[2]))

    def _close_kernel(self) -> None:
        if self._kernel is not None:
            self._kernel.kill()
            self._kernel.wait()
            assert self._kernel.stdout is not None
            self._kernel.stdout.close()
            self._kernel = None

    def _compare(self, run: Any, folder: RunFolder, expected: Mapping[str, Any]) -> None:
        self.found.attempts += len(run.attempts)
        if run.state != "finished":
            self.found.wrong.append(f"{run.ref} is {run.state}: {run.error}")
            return
        for what, value in _outcome(run).items():
            if value != expected[what]:
                self.found.wrong.append(f"{run.ref}: {what} differ: {_difference(expected[what], value)}")
        for attempt in run.attempts[1:]:
            if attempt.resumes is not None:
                self.found.repeated.append(max(0, _reached(folder, attempt.at) - attempt.resumes))
        for moment, saved in self._saved:
            following = next((attempt for attempt in run.attempts if attempt.at > moment), None)
            if following is not None and (following.resumes or 0) < saved:
                self.found.wrong.append(f"a checkpoint of step {saved} was there, and the run went on from {following.resumes}")


def _outcome(run: Any) -> dict[str, Any]:
    """What must be the same to the bit and to the line."""
    model = registry.load(run.workspace, run.model)
    weights = {name: value.tobytes() for name, value in load_file(model.folder / "weights.safetensors").items()}
    folder = jobs.folder_of(run.workspace, run.id)
    lines = [line for line in run.logs().splitlines() if line.startswith(("step", "after", "epoch"))]
    return {"weights": weights, "metrics": jobs.metric_series(folder), "log lines": lines, "steps": model.card_data["steps"]}


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"p50 {statistics.median(seconds):.2f} s, p95 {sorted(seconds)[math.ceil(len(seconds) * 0.95) - 1]:.2f} s"


def _difference(expected: Any, value: Any) -> str:
    if isinstance(value, list):
        missing, more = Counter(expected) - Counter(value), Counter(value) - Counter(expected)
        return f"{sum(missing.values())} lost ({list(missing)[:3]}), {sum(more.values())} more ({list(more)[:3]})"
    if isinstance(value, dict):
        return f"{[name for name in expected if value.get(name) != expected[name]]}"
    return f"{value}, not {expected}"


def _newest_step(folder: RunFolder) -> int:
    """The step of the newest checkpoint that is complete on disk."""
    return max((int(path.stem) for path in (folder.path / "checkpoints").glob("*.json")), default=0)


def _is_training(folder: RunFolder) -> bool:
    """Whether the newest attempt has said a step."""
    events = folder.events()[0]
    begun = max((number for number, event in enumerate(events) if "attempt" in event), default=0)
    return any("loss" in event for event in events[begun:])


def _reached(folder: RunFolder, before: float) -> int:
    """The step that was said last before a moment."""
    return max((int(event["step"]) for event in folder.events()[0] if event["at"] <= before and "loss" in event), default=0)


def _pid_of(folder: RunFolder, what: str) -> int | None:
    if what == "supervisor":
        ups = [event["pid"] for event in folder.events()[0] if event.get("supervisor") == "up"]
        return int(ups[-1]) if ups else None
    word = folder.read(f"rank.{what.split()[1]}.json")
    return int(word["pid"]) if word and "ended" not in word else None


def _killed(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"jupyter_mlp.backends" not in command:
            return False
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def publish_rows(workspace: Workspace) -> None:
    numbers = np.random.default_rng(5)
    count = STEPS_AN_EPOCH * 128 * 10 // 9
    x = numbers.normal(10, 5, count)
    table = pa.table({"x": x, "z": numbers.normal(0, 1, count), "y": 3 * x + numbers.normal(0, 1, count)})
    with workspace.activities.recording("query", name="rows") as draft:
        datasets.publish_table(workspace, draft, "rows", table)


def _until(true: Any, limit_s: float, run: Any) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.ref} is still {run.state} after {limit_s:.0f} s:\n{run!r}\n{run.logs()[-2000:]}")
        time.sleep(0.1)


def main() -> int:
    """Print the figures; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description="kill -9 at random over workers, supervisor and kernel")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--strategy", default="auto")
    given = parser.parse_args()
    print(f"--kills {given.kills} --seed {given.seed} --ranks {given.ranks} --strategy {given.strategy}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mlp-kills-") as folder:
        found = Kills(Path(folder), given.kills, given.seed, given.ranks, strategy=given.strategy).run()
    print(found.figures())
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
