"""Which strategy trains a model: one process, a copy in each (DDP), or a part in each (FSDP), from its size and the memory."""

from __future__ import annotations

import psutil
import torch
from torch import nn

from jupyter_mlp.backends.lightning_resuming import Pace
from jupyter_mlp.core.cards import size_text

_COPIES = 4  # weights, gradients and the two moments of Adam
_SHARE = 0.7  # of the memory; the rest is for activations and batches


def chosen(asked: str, model: nn.Module, world: int) -> tuple[str, str]:
    """Return the strategy by the Trainer's own name, and a sentence that says why ("" where it was asked for)."""
    if asked != "auto":
        return asked, ""
    memory, where = _memory(world)
    return by_size(sum(one.numel() * one.element_size() for one in model.parameters()), memory, where, world)


def by_size(weights: int, memory: int, where: str, world: int) -> tuple[str, str]:
    """Return the strategy for weights of so many bytes on processes with so much memory each, and why.

    Args:
        where: GPU or CPU. FSDP needs GPUs.
    """
    needed = weights * _COPIES
    told = f"weights, gradients and optimiser need about {size_text(needed)} of {size_text(memory)} on each {where}"
    fits = needed <= memory * _SHARE
    if world == 1:
        return "auto", "" if fits else f"Strategy: one process, although {told}; more --gpus let FSDP share them."
    if fits:
        return "ddp", f"Strategy ddp: a copy of the model in each of {world} processes, since {told}."
    if where == "CPU":
        return "ddp", f"Strategy ddp, although {told}: FSDP, which would share them, needs GPUs."
    return "fsdp", f"Strategy fsdp: a part of the model on each of {world} GPUs, since {told}. It is saved at the end only."


def pace(strategy: str, asked: Pace) -> Pace:
    """Return when checkpoints are due: never where each process holds a part, which our files cannot hold yet."""
    return Pace() if "fsdp" in strategy else asked


def _memory(world: int) -> tuple[int, str]:
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory), "GPU"
    return int(psutil.virtual_memory().total) // world, "CPU"
