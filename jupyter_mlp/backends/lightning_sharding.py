"""Models of which each process holds a part: Lightning's ModelParallelStrategy, with checkpoints that are ours.

A model says itself how it is spread, in configure_model() with self.device_mesh (tensor parallelism, FSDP, or both); one that
does not is sharded by FSDP (torch's fully_shard): its repeated layers each by itself, and what is left together. Everything
here runs on GPUs and on the processors of one machine alike.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from jupyter_mlp.backends.lightning_checkpoints import PART, load, load_part
from jupyter_mlp.backends.lightning_placements import is_spread, meshes_of, spread_like
from jupyter_mlp.core.errors import InvalidInputError

_SHARE = 0.01  # of the parameters: what is smaller is not worth a message of its own


class Sharded(ModelParallelStrategy):
    """Each process holds a part of the model; the mesh is data parallel by tensor parallel, as Lightning's.

    Of a ModelCheckpoint of the user's, rank 0 writes the whole model into one file, as everywhere else.
    """

    def __init__(self, data_parallel_size: int, tensor_parallel_size: int) -> None:
        super().__init__(data_parallel_size, tensor_parallel_size, save_distributed_checkpoint=False)
        self._is_ours = False  # whether we have sharded it: then the whole of a step is one forward pass of FSDP's
        self._in_parts = False
        self._found_parts = False  # whether what was loaded has the state of model and optimisers in it

    def setup(self, trainer: L.Trainer) -> None:
        """Spread the model over the ranks before its optimisers are made."""
        model = self.lightning_module
        assert model is not None
        if not is_spread(model):
            self.precision_plugin.convert_module(model)
            if self._layer_sync is not None:
                self._layer_sync.apply(model)
            shard(model, self.device_mesh["data_parallel"])
            self._is_ours = True
        check_copies(model, self.device_mesh["data_parallel"])
        if not is_overridden("configure_model", model):
            model.configure_model = _nothing  # Lightning insists on one, and it is done
        super().setup(trainer)

    # -- a step: what FSDP gathers before a forward pass it also has where a step uses a layer's weights by itself

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Do the model's step."""
        return self._step("training_step", self.precision_plugin.train_step_context(), *args, **kwargs)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Do the model's step."""
        return self._step("validation_step", self.precision_plugin.val_step_context(), *args, **kwargs)

    def _step(self, name: str, context: AbstractContextManager[Any], *args: Any, **kwargs: Any) -> Any:
        assert self.lightning_module is not None
        with context:
            if self._is_ours:
                return self._forward_redirection(self.lightning_module, self.lightning_module, name, *args, **kwargs)
            return getattr(self.lightning_module, name)(*args, **kwargs)

    # -- checkpoints

    @contextmanager
    def in_parts(self) -> Iterator[None]:
        """Let what is saved be this rank's part of everything, and not the whole on rank 0."""
        self._in_parts = True
        try:
            yield
        finally:
            self._in_parts = False

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the model's state: this rank's part, or on rank 0 the whole and elsewhere nothing."""
        return Strategy.lightning_module_state_dict(self) if self._in_parts else super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return an optimiser's state, likewise."""
        return Strategy.optimizer_state(self, optimizer) if self._in_parts else super().optimizer_state(optimizer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Let each rank write its part of a checkpoint of ours."""
        if PART in checkpoint:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath)
        else:
            super().save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read this rank's part of a checkpoint of ours; the file of a LearningRateFinder is read by rank 0."""
        assert self.lightning_module is not None
        path = Path(checkpoint_path)
        self._found_parts = path.suffix != ".ckpt"
        if not self._found_parts:
            return super().load_checkpoint(checkpoint_path, weights_only)
        if path.is_dir():
            return load_part(path, self.global_rank, self.world_size, meshes_of(self.lightning_module))
        return self._spread(load(path))

    def _spread(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint that has the whole model, with this rank's part of it."""
        assert self.lightning_module is not None
        weights = checkpoint["state_dict"]
        weights |= {name: spread_like(weights[name], one) for name, one in self.lightning_module.named_parameters() if name in weights}
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            for number, parameter in zip(numbers, parameters, strict=True):
                held = state["state"].get(number, {})
                held |= {name: spread_like(one, parameter) for name, one in held.items() if isinstance(one, torch.Tensor)}
        return checkpoint

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether optimisers are still to be given what was loaded."""
        return self._found_parts

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give the model what was loaded."""
        if self._found_parts:
            Strategy.load_model_state_dict(self, checkpoint, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give the optimisers what was loaded."""
        if self._found_parts:
            Strategy.load_optimizer_state_dict(self, checkpoint)


def shard(model: L.LightningModule, mesh: DeviceMesh) -> None:
    """Shard a model by FSDP: each large repeated layer by itself, which is gathered when it is called, and the rest together.

    Raises:
        InvalidInputError: it cannot be sharded without its author's help.
    """
    if not model.automatic_optimization:
        raise InvalidInputError(
            f"{_name(model)} steps its optimisers itself, and between those steps FSDP cannot tell which weights are needed.",
            "Train it with --strategy ddp, or shard its networks in configure_model() with fully_shard and self.device_mesh.",
        )
    single = next((name for name, one in model.named_parameters() if one.ndim == 0), None)
    if single is not None:
        raise InvalidInputError(
            f"FSDP cannot shard {single} of {_name(model)}, which is a single number without a dimension.",
            "Make it a tensor of one number: nn.Parameter(torch.ones(1)), or train with --strategy ddp.",
        )
    for layer in repeated_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def check_copies(model: L.LightningModule, mesh: DeviceMesh) -> None:
    """Refuse a model that would be trained several times over, each copy on its own rows.

    Raises:
        InvalidInputError: nothing in it hears of the other groups of processes.
    """
    if mesh.size() > 1 and not any(isinstance(one, FSDPModule) for one in model.modules()):
        raise InvalidInputError(
            f"configure_model() of {_name(model)} leaves {mesh.size()} copies of it, which never hear of one another.",
            'Add fully_shard(self.MODEL, mesh=self.device_mesh["data_parallel"]) to it, or give --tensor-parallel-size all of --gpus.',
        )


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """Return layers that stand several of a kind in a Sequential or ModuleList, the outermost, if they are large.

    Only such as are made of other layers: FSDP gathers their weights when they are called, and a plain Linear or Embedding may be
    used by its weight alone. None that shares a weight with another layer.
    """
    least = _SHARE * sum(one.numel() for one in model.parameters())
    uses = Counter(id(one) for layer in model.modules() for one in layer.parameters(recurse=False))
    found: dict[nn.Module, None] = {}
    inside: set[nn.Module] = set()
    for holder in model.modules():  # from the outside in
        if holder in inside or not isinstance(holder, nn.Sequential | nn.ModuleList):
            continue
        kinds = Counter(type(layer) for layer in holder)
        for layer in holder:
            called = any(layer.children()) and not isinstance(layer, nn.ModuleList | nn.ModuleDict)
            size = sum(one.numel() for one in layer.parameters())
            own = all(uses[id(one)] == 1 for one in layer.parameters())
            if kinds[type(layer)] > 1 and called and own and size and size >= least:
                found[layer] = None
                inside.update(layer.modules())
    return list(found)


def skeleton(model: L.LightningModule) -> L.LightningModule:
    """Return the model as it is before it is spread, without its weights, which are put in once it is trained.

    Raises:
        InvalidInputError: something in it cannot be copied.
    """
    bare: dict[int, Any] = {id(one): nn.Parameter(one.detach().to("meta"), one.requires_grad) for one in model.parameters()}
    try:
        return copy.deepcopy(model, bare)
    except Exception as error:
        raise InvalidInputError(
            f"{_name(model)} cannot be spread over processes, since it cannot be copied: {type(error).__name__}: {error}.",
            "Keep open files and locks out of its attributes, or train it with --strategy ddp.",
        ) from error


def filled(bare: L.LightningModule, weights: Mapping[str, Any]) -> L.LightningModule | None:
    """Return a skeleton with the trained weights in it; None where the trained model has other layers than it had before."""
    found = bare.load_state_dict(weights, strict=False, assign=True)
    return None if found.missing_keys or found.unexpected_keys else bare


def _name(model: nn.Module) -> str:
    return type(model).__name__.removeprefix("FSDP")


def _nothing() -> None:
    pass
