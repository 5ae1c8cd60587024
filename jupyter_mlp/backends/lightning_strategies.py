"""What the choice of a strategy is made from: the model's size, how it steps and spreads itself, and the memory."""

from __future__ import annotations

import os

import lightning as L  # noqa: N812 - how everybody writes it
import psutil
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from jupyter_mlp.backends.lightning_resuming import Pace
from jupyter_mlp.backends.lightning_sharding import skeleton
from jupyter_mlp.core import parallelism
from jupyter_mlp.core.parallelism import Choice, Machines, Model

_OF_THEIR_OWN = ("fsdp_", "deepspeed")  # strategies of Lightning's that write checkpoints of their own kind


def chosen(
    asked: str, tensor_parallel_size: int | None, model: L.LightningModule, world: int, features: tuple[int, int] | None = None
) -> Choice:
    """Return the strategy of a run, and a sentence that says why ("" where that goes without saying).

    Args:
        features: shape (rows, width) of what one process's forward() is given in a step; None where nobody knows.
    """
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    memory, where = _memory(world)
    machines = Machines(world, int(os.environ.get("LOCAL_WORLD_SIZE", world)), memory, where)
    looks = asked == parallelism.AUTO and features is not None and parallelism.depends_on_activations(weights, machines)
    kept = activations(model, features) if looks and features else None
    known = Model(weights, kept, _uses_mesh(model), not model.automatic_optimization)
    found = parallelism.chosen(asked, tensor_parallel_size, known, machines)
    if not has_checkpoints(found.strategy):
        return Choice(found.strategy, 1, f"Strategy {found.strategy} writes no checkpoints of this run: it is saved at the end only.")
    return found


def has_checkpoints(strategy: str) -> bool:
    """Whether a run goes on from its checkpoints under a strategy."""
    return not strategy.startswith(_OF_THEIR_OWN)


def pace(strategy: str, asked: Pace) -> Pace:
    """Return when checkpoints are due: never where our files cannot hold what each process has."""
    return asked if has_checkpoints(strategy) else Pace()


def activations(model: L.LightningModule, features: tuple[int, int]) -> int | None:
    """Return how many bytes forward() keeps for the backward pass; None where its code cannot be followed without real numbers.

    It is run on tensors that have a shape and no memory.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other gets its number
        return tensor

    try:
        with isolate_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            bare = skeleton(model).to("meta")
            own = {one.untyped_storage()._cdata for one in (*bare.parameters(), *bare.buffers())}
            bare(torch.empty(features, device="meta"))
    except Exception:  # noqa: BLE001 - the author's code, which may look at numbers or take something else than features
        return None
    return sum(one.nbytes() for number, one in kept.items() if number not in own)


def _uses_mesh(model: L.LightningModule) -> bool:
    """Whether the model has a configure_model() of its own, and its code asks for the mesh of processes."""
    if not is_overridden("configure_model", model):
        return False
    own = (kind for kind in type(model).__mro__ if issubclass(kind, L.LightningModule) and kind is not L.LightningModule)
    codes = (getattr(one, "__code__", None) for kind in own for one in vars(kind).values())
    return any("device_mesh" in code.co_names for code in codes if code is not None)


def _memory(world: int) -> tuple[int, str]:
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory), "GPU"
    return int(psutil.virtual_memory().total) // world, "CPU"
