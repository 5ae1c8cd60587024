"""Which way of training over processes suits a model: one process, a copy in each, or a part in each; and why, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_mlp.core.cards import size_text
from jupyter_mlp.core.errors import InvalidInputError

MODEL_PARALLEL, FSDP, DDP, AUTO = "model_parallel", "fsdp", "ddp", "auto"
SHARDED = (FSDP, MODEL_PARALLEL)  # a part of the model in each process, and checkpoints in parts
_STATES = 4  # a weight, its gradient and the two moments of Adam
_SHARE, _SHARE_OF_ALL = 0.7, 0.9  # of the memory: where activations are not known, and where they are; the rest is for batches
_SMALL = 0.2  # of the memory: with less for them, sharing the weights would not help where activations are large


@dataclass(frozen=True)
class Model:
    """What the choice depends on.

    Attributes:
        weights: bytes of all parameters.
        activations: bytes that one process's rows of a step keep for the backward pass; None where nobody knows.
        spreads_itself: its configure_model() uses the device mesh.
        steps_itself: it calls its optimisers, so nobody else can shard it.
    """

    weights: int
    activations: int | None = None
    spreads_itself: bool = False
    steps_itself: bool = False


@dataclass(frozen=True)
class Machines:
    """What there is to train on.

    Attributes:
        world: processes. `local`: of them on this machine.
        memory: bytes for each process, on what `where` names: GPU or CPU.
    """

    world: int
    local: int
    memory: int
    where: str


@dataclass(frozen=True)
class Choice:
    """A strategy by its name, how many processes share one row's computation, and why; "" where it goes without saying."""

    strategy: str
    tensor_parallel_size: int = 1
    why: str = ""


def check_size(asked: str, size: int | None, world: int) -> None:
    """Refuse a tensor parallel size that no model could be trained with.

    Raises:
        InvalidInputError: the strategy has none, or the processes cannot be divided by it.
    """
    if size is None:
        return
    if asked not in (AUTO, MODEL_PARALLEL):
        raise InvalidInputError(f"The strategy {asked} knows no --tensor-parallel-size.", "Use --strategy model_parallel.")
    if world % size:
        raise InvalidInputError(
            f"{world} processes cannot be divided into groups of --tensor-parallel-size {size}.",
            f"Give --gpus {size * -(-world // size)}, or another --tensor-parallel-size.",
        )


def chosen(asked: str, tensor_parallel_size: int | None, model: Model, machines: Machines) -> Choice:
    """Return what was asked for, or for auto what suits.

    Args:
        tensor_parallel_size: one that `check_size` has let pass; None for what suits.

    Raises:
        InvalidInputError: nobody says how the model is split.
    """
    if (tensor_parallel_size or 1) > 1 and not model.spreads_itself:
        raise InvalidInputError(
            "How the model's layers are split over a --tensor-parallel-size is not known.",
            'Say it in configure_model() with parallelize_module(..., self.device_mesh["tensor_parallel"], plan), or use --strategy fsdp.',
        )
    if asked in SHARDED or (asked == AUTO and model.spreads_itself):
        return _spread(asked, tensor_parallel_size, model, machines)
    return Choice(asked) if asked != AUTO else _by_size(model, machines)


def depends_on_activations(weights: int, machines: Machines) -> bool:
    """Whether a choice by size can depend on them: they cost a look at the model."""
    return weights * _STATES > machines.memory * _SMALL


def _spread(asked: str, size: int | None, model: Model, machines: Machines) -> Choice:
    if size is None:  # Lightning's own default for a model that uses the mesh
        size = machines.local if asked != FSDP and model.spreads_itself else 1
    how = f"data_parallel_size={machines.world // size}, tensor_parallel_size={size}"
    if model.spreads_itself:
        return Choice(MODEL_PARALLEL, size, f"Strategy model_parallel, as configure_model() spreads the model: {how}.")
    if machines.world == 1:
        return Choice(AUTO, 1, f"Strategy {asked} shares nothing in one process: --gpus 2 gives each a half of the model.")
    return Choice(asked, size)


def _by_size(model: Model, machines: Machines) -> Choice:
    states, kept, world, where = model.weights * _STATES, model.activations or 0, machines.world, machines.where
    needed, shared = states + kept, states / world + kept
    room = machines.memory * (_SHARE if model.activations is None else _SHARE_OF_ALL)
    has = f"of {size_text(machines.memory)} on each {where}"
    what = "weights, gradients and optimiser" if model.activations is None else "weights, gradients, optimiser and activations"
    told = f"{what} need about {size_text(needed)} {has}"
    if world == 1:
        return Choice(AUTO, 1, "" if needed <= room else f"Strategy: one process, although {told}; more --gpus let FSDP share them.")
    if needed <= room:
        return Choice(DDP, 1, f"Strategy ddp: a copy of the model in each of {world} processes, since {told}.")
    if model.steps_itself:
        return Choice(DDP, 1, f"Strategy ddp, although {told}: FSDP cannot share a model that steps its optimisers itself.")
    part = f"a part of the model on each of {world} {where}s, about {size_text(shared)}"
    if shared <= room:
        return Choice(FSDP, 1, f"Strategy fsdp: {part}, since {told}.")
    less = "more --gpus or a smaller --batch-size make" if kept else "more --gpus make"
    return Choice(FSDP, 1, f"Strategy fsdp: {part}, although even that is much {has}; {less} it less.")
