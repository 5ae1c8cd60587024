"""What a training uses of its machine: measured with what it started, and told in a line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlp.reports import runs
from jupyter_mlp.store import environment, gpus, usage
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.usage import Meter, Use


def test_what_a_process_started_counts_too() -> None:
    meter = Meter()
    busy = subprocess.Popen([sys.executable, "-c", "x = bytearray(200_000_000)\nwhile True: pass"])
    try:
        time.sleep(1.5)
        cores, memory = meter.look()
    finally:
        busy.kill()
        busy.wait()
    assert 0.2 < cores < os.cpu_count() + 0.5  # type: ignore[operator]
    assert memory > 200_000_000


def test_the_line_of_a_run_says_what_it_used(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert runs._used(folder) == []
    usage.say(folder, Use(1.0, 0, "NVIDIA H100 80GB HBM3", 1.5, 2 * 10**9, 0.5, 10**10, 8 * 10**10))
    usage.say(folder, Use(2.0, 0, "NVIDIA H100 80GB HBM3", 0.5, 10**9, 1.0, 2 * 10**10, 8 * 10**10))
    assert runs._used(folder) == [
        ("device", "NVIDIA H100 80GB HBM3"),
        ("uses", "1.0 cores, 2.0 GB of memory, GPU 75% busy, 20.0 GB of its 80.0 GB"),
    ]
    usage.say(folder, Use(2.0, 1, "cpu", 1.0, 10**9))
    assert runs._used(folder)[0] == ("device", "NVIDIA H100 80GB HBM3, cpu") and runs._used(folder)[1][1].endswith("each of 2 processes")


def test_a_full_disk_does_not_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from jupyter_mlp.backends import lightning_usage

    def full(folder: RunFolder, use: Use) -> None:
        raise OSError(28, "No space left on device")

    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=SimpleNamespace(type="cpu")))
    monkeypatch.setattr(lightning_usage, "_EVERY_S", 0.05)
    with lightning_usage.measured(RunFolder(tmp_path), trainer, 0):
        time.sleep(0.3)
    written = len(usage.said(RunFolder(tmp_path)))
    assert written >= 2
    monkeypatch.setattr(usage, "say", full)
    with lightning_usage.measured(RunFolder(tmp_path), trainer, 0):
        time.sleep(0.2)
    assert len(usage.said(RunFolder(tmp_path))) == written


def test_gpus_that_are_not_ours_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.os, "listdir", lambda _: ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "tty0"])  # type: ignore[attr-defined]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-8f6")
    assert gpus.visible() == ["2", "GPU-8f6"] and gpus.count() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.names() == []


def test_another_gpu_or_processor_is_other_hardware() -> None:
    here = environment.describe()
    assert environment.other_hardware(here, environment.describe()) == ""
    assert "GPU NVIDIA H100 -> " in environment.other_hardware({**here, "gpus": ["NVIDIA H100"]}, here)
    assert environment.other_hardware({**here, "processor": "M4"}, here) == f"processor M4 -> {here['processor']}"
    assert environment.changed({**here, "gpus": ["NVIDIA H100"], "processor": "M4"}, here) == "", "the packages are the same"
    before = {name: value for name, value in here.items() if name not in ("gpus", "processor")}
    assert environment.other_hardware(before, here) == "", "recorded before they were"


def test_another_build_of_the_same_version_is_another_environment() -> None:
    here = environment.exact()
    assert here["builds"]["numpy"] and environment.changed(here, environment.exact()) == ""
    other = {**here, "builds": here["builds"] | {"torch": "0" * 32}}
    assert environment.changed(other, here) == f"torch {here['packages']['torch']}, another build of it"
    assert environment.changed(environment.describe(), here) == "", "a snapshot of before knows no builds"
    assert here["java"] and environment.changed({**here, "java": "21.0.1"}, here) == f"Java 21.0.1 -> {here['java']}"
