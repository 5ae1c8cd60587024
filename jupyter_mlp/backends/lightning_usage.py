"""What a rank uses while it fits, measured by a thread of its own: no step waits for it, and no training fails for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import lightning as L  # noqa: N812 - how everybody writes it
import psutil
import torch

from jupyter_mlp.store import usage
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.usage import Meter, Use

_EVERY_S = 5.0


@contextmanager
def measured(run: RunFolder, trainer: L.Trainer, rank: int) -> Iterator[None]:
    """Say every few seconds, and once at the end, what this rank uses."""
    over, meter = threading.Event(), Meter()

    def tell() -> None:
        with suppress(OSError, psutil.Error):  # a full disk fails what must be written, and this need not be
            usage.say(run, _now(meter, trainer, rank))

    def watch() -> None:
        while not over.wait(_EVERY_S):
            tell()

    thread = threading.Thread(target=watch, daemon=True, name="mlp-usage")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_EVERY_S)  # a driver that does not answer holds nobody up
    if not thread.is_alive():
        tell()


def device_name(trainer: L.Trainer) -> str:
    """Return what a rank trains on: the name of a GPU, or cpu."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _now(meter: Meter, trainer: L.Trainer, rank: int) -> Use:
    cores, memory = meter.look()
    use = (time.time(), rank, device_name(trainer), round(cores, 2), memory)
    device = trainer.strategy.root_device
    if device.type != "cuda":
        return Use(*use)
    free, has = torch.cuda.mem_get_info(device)
    return Use(*use, _busy(device), has - free, has)


def _busy(device: torch.device) -> float | None:
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # noqa: BLE001 - without the driver's library, or in a container that hides it, nobody can tell
        return None
