"""The Trainer of a run: what is ours of its arguments, and the user's own by their own names."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import Strategy

from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_exchange import SharedMemoryDDP, suits
from jupyter_mlp.backends.lightning_loggers import Mirror, RunLogger
from jupyter_mlp.backends.lightning_sharding import Sharded
from jupyter_mlp.backends.lightning_strategies import has_checkpoints
from jupyter_mlp.core.parallelism import SHARDED, Choice
from jupyter_mlp.core.plugins import load
from jupyter_mlp.store.jobs import RunFolder

Spec = Mapping[str, Any]
_NOTHING = nullcontext()


class Unprofiled(PassThroughProfiler):
    """No profiler, without the generator that Lightning makes for nothing around each of thirty hooks in every step."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """Return a context in which nothing is measured."""
        return _NOTHING


def make_trainer(
    spec: Spec, run: RunFolder, world: int, rank: int, callbacks: list[L.Callback], writer: AsyncCheckpoints, choice: Choice
) -> L.Trainer:
    """Return the trainer of this rank."""
    # The batches come ready from a thread of their own: worker processes would only copy them once more.
    for told in (
        "does not have many workers",
        "has `__len__` defined",
        "isinstance.treespec, LeafSpec",
        "your dataloader is not resumable",
        "srun. command is available",
        "smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", message=f".*{told}.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    mirror = _mirror(spec, run, rank)
    logger = RunLogger(run, rank, mirror)
    trainer = L.Trainer(
        max_epochs=spec["max_epochs"],
        accelerator="auto",
        devices=local,
        num_nodes=world // local,
        strategy=_strategy(choice, world),
        callbacks=callbacks,
        plugins=[*([writer] if has_checkpoints(choice.strategy) else []), _ranks(world)],
        logger=[logger, mirror] if mirror else logger,  # a model's self.logger is the first
        profiler=Unprofiled(),
        default_root_dir=run.path,
        enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),  # the user's own, beside ours
        enable_progress_bar=any(isinstance(one, ProgressBar) for one in callbacks),  # it prints into the run's log
        enable_model_summary=False,
        use_distributed_sampler=spec.get("own") is not None,  # batches of ours are each rank's own already
        **{"num_sanity_val_steps": 0, "log_every_n_steps": 10, **spec.get("trainer", {})},
    )
    logger.trainer = trainer
    # Before every step Lightning lets rank 0 tell the others whether a signal has come, and waits for it: 7 % of a small
    # model's step, and on a GPU its queue runs empty. Whoever ends our ranks tells each of them.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _told_already
    return trainer


def _told_already() -> None:
    pass


def _strategy(choice: Choice, world: int) -> Strategy | str:
    if choice.strategy in SHARDED:
        return Sharded(world // choice.tensor_parallel_size, choice.tensor_parallel_size)
    return SharedMemoryDDP() if suits(choice.strategy, world) else choice.strategy


def _ranks(world: int) -> ClusterEnvironment:
    """Say who told the ranks of one another: we did, as torchrun does.

    Left to look, Lightning would start MPI where mpi4py is installed, and MPI ends a process that Slurm's srun has started.
    """
    return TorchElasticEnvironment() if world > 1 else LightningEnvironment()


def _mirror(spec: Spec, run: RunFolder, rank: int) -> Mirror | None:
    """Return the mirror that the settings name; it is never needed, so it never stops a run."""
    if spec["tracker"] == "none":
        return None

    def failed(why: str) -> None:
        if rank == 0:
            run.say({"note": f"The tracker {spec['tracker']} is not used: {why}"})

    try:
        return Mirror(load("trackers", spec["tracker"])(spec, run.path), failed)
    except Exception as error:  # noqa: BLE001 - see above
        failed(str(error).splitlines()[0])
        return None
