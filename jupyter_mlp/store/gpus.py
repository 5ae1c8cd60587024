"""The NVIDIA GPUs of this machine: which may be used, and what their driver calls them. Nothing here imports torch."""

from __future__ import annotations

import os
from typing import Any

UNNAMED = "NVIDIA GPU"  # where the driver's own library cannot be asked


def count() -> int:
    """Return how many GPUs may be used."""
    return len(visible())


def visible() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that may be used."""
    names = os.listdir("/dev") if os.path.isdir("/dev") else []
    found = sorted(name[6:] for name in names if name.startswith("nvidia") and name[6:].isdigit())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [one.strip() for one in allowed.split(",") if one.strip() not in ("", "-1")][: len(found)]
    return [str(number) for number in range(len(found))]


def names() -> list[str]:
    """Return what each GPU that may be used is, such as NVIDIA H100 80GB HBM3."""
    found = visible()
    if not found:
        return []
    unnamed = [UNNAMED] * len(found)
    try:
        import pynvml
    except ImportError:
        return unnamed
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return unnamed
    try:
        return [_name(pynvml, one) for one in found]
    finally:
        pynvml.nvmlShutdown()


def _name(nvml: Any, one: str) -> str:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(int(one)) if one.isdigit() else nvml.nvmlDeviceGetHandleByUUID(one)
        return str(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError:
        return UNNAMED
