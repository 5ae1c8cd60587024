"""How a tensor is spread over ranks (a DTensor), in words that a checkpoint keeps, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from jupyter_mlp.core.errors import InvalidInputError

Meshes = Mapping[tuple[str, ...], DeviceMesh]


def described(tensor: DTensor, at: str) -> dict[str, Any]:
    """Say where this rank's part of a tensor belongs, in JSON types.

    Args:
        at: what the tensor is called in its checkpoint.

    Raises:
        InvalidInputError: its parts are to be added up, or lie in a way that is not known here.
    """
    placements = [_told(one, at) for one in tensor.placements]
    return {"shape": list(tensor.shape), "stride": list(tensor.stride()), "mesh": _names(tensor.device_mesh), "placements": placements}


def joined(told: Mapping[str, Any], part: torch.Tensor, meshes: Meshes) -> DTensor:
    """Return the tensor that `described` has seen, of which this rank has a part."""
    mesh = meshes[tuple(told["mesh"])]
    placements = [_placement(*one) for one in told["placements"]]
    size, stride = torch.Size(told["shape"]), tuple(told["stride"])
    # run_check would compare the parts of all ranks with each other: they have been checked by their hashes.
    found: DTensor = DTensor.from_local(part.to(mesh.device_type), mesh, placements, run_check=False, shape=size, stride=stride)
    return found


def meshes_of(model: nn.Module) -> Meshes:
    """Return the meshes that a model's parameters are spread over."""
    spread = (one for one in model.parameters() if isinstance(one, DTensor))
    return {tuple(_names(one.device_mesh)): one.device_mesh for one in spread}


def is_spread(model: nn.Module) -> bool:
    """Whether any of a model's parameters is spread over ranks."""
    return any(isinstance(one, DTensor) for one in model.parameters())


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a tensor; all of one that is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _names(mesh: DeviceMesh) -> list[str]:
    return list(mesh.mesh_dim_names or ())


def _told(placement: Placement, at: str) -> list[Any]:
    if isinstance(placement, _StridedShard):  # of a tensor that both FSDP and tensor parallelism split
        return ["strided", placement.dim, placement.split_factor]
    if isinstance(placement, Shard):
        return ["shard", placement.dim]
    if isinstance(placement, Replicate):
        return ["replicate"]
    raise InvalidInputError(f"No checkpoint is written: the parts of {at} lie as {placement} over the processes, which no file can say.")


def _placement(kind: str, *numbers: int) -> Placement:
    if kind == "strided":
        return _StridedShard(numbers[0], split_factor=numbers[1])
    return Shard(*numbers) if kind == "shard" else Replicate()
