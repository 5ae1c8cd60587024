"""How a tensor is spread over ranks (a DTensor), in words that a checkpoint keeps, and back: over as many ranks, or others.

A part is a block of the whole, one run of numbers along every dimension, also where tensor parallelism and FSDP split the same
one: tensor parallelism splits it first, and FSDP what is left of it to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    mesh = tensor.device_mesh
    return {
        "shape": list(tensor.shape),
        "stride": list(tensor.stride()),
        "mesh": _names(mesh),
        "placements": [_told(one, at) for one in tensor.placements],
        "sizes": list(mesh.shape),
        "coordinate": list(mesh.get_coordinate() or ()),
    }


def whole(told: Sequence[Mapping[str, Any]], parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the tensor of whose `parts`, those of all ranks, `described` has said where they belong."""
    found = torch.empty(told[0]["shape"], dtype=parts[0].dtype)
    for one, part in zip(told, parts, strict=True):
        found[_block(one["shape"], one["placements"], one["sizes"], one["coordinate"])] = part
    return found


def spread(tensor: torch.Tensor, told: Mapping[str, Any], meshes: Meshes) -> DTensor:
    """Return a whole tensor as it lies over the ranks that there are now, spread in the way that `described` has seen."""
    mesh = meshes[tuple(told["mesh"])]
    placements = [_resized(told["placements"], number, mesh.shape) for number in range(mesh.ndim)]
    here = _block(told["shape"], placements, mesh.shape, mesh.get_coordinate() or ())
    return joined({**told, "placements": placements}, tensor[here].clone(), meshes)


def spread_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor spread as another one of its shape; as it is where that one is not spread, or has another shape."""
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor) or tensor.shape != other.shape:
        return tensor
    told = described(other, "")
    return spread(tensor, told, {tuple(told["mesh"]): other.device_mesh})


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


def _resized(placements: Sequence[Sequence[Any]], number: int, sizes: Sequence[int]) -> Sequence[Any]:
    """Return a placement as it is where the mesh has these sizes: one that is strided names the size of what splits before it."""
    kind, *numbers = placements[number]
    if kind != "strided":
        return placements[number]
    factor = 1
    for (other, *dim), size in zip(placements, sizes, strict=True):
        if other == "shard" and dim[0] == numbers[0]:
            factor *= size
    return [kind, numbers[0], factor]


def _block(shape: Sequence[int], placements: Sequence[Sequence[Any]], sizes: Sequence[int], coordinate: Sequence[int]) -> tuple[slice, ...]:
    """Return where the part of the rank at `coordinate` of a mesh lies in the whole."""
    ends = [(0, length) for length in shape]
    split = [one for one in zip(placements, sizes, coordinate, strict=True) if one[0][0] != "replicate"]
    for (_, dim, *_), size, at in sorted(split, key=lambda one: bool(one[0][0] == "strided")):
        low, high = ends[dim]
        step = -(-(high - low) // size)
        ends[dim] = min(low + step * at, high), min(low + step * (at + 1), high)
    return tuple(slice(*one) for one in ends)
