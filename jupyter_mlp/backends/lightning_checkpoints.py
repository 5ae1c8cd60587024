"""Lightning's CheckpointIO as ours: a snapshot to memory, a file written beside the training, and never a pickle.

A checkpoint is a tree of dicts, lists and plain values with tensors in it. The tensors go into a safetensors file and the
rest, with their numbers in place of the tensors, as JSON into its header; nothing that is read from it can run.

Of a tensor that is spread over ranks (a DTensor), each rank's file has the rank's own part, with where it belongs.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from jupyter_mlp.backends.lightning_placements import Meshes, described, joined, spread, whole
from jupyter_mlp.core.errors import Again, InvalidInputError, MLPError
from jupyter_mlp.store import checkpoints
from jupyter_mlp.store.checkpoints import Part

PLACE = "mlp.place"  # what a checkpoint's manifest repeats of it
PART = "mlp.part"  # which part of the checkpoint this rank holds; not there where rank 0 has all of it
_TREE = "tree"


class AsyncCheckpoints(CheckpointIO):
    """Writes at most one checkpoint at a time, in a thread; the step waits for the copy to memory only.

    Those of a ModelCheckpoint of the user's are written as Lightning writes them; no run goes on from one.

    Args:
        failed: told in a sentence why one could not be written; training goes on.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._writing: threading.Thread | None = None
        self._plain = TorchCheckpointIO()

    @property
    def busy(self) -> bool:
        """Whether the one before is still being written."""
        return self._writing is not None and self._writing.is_alive()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Copy what is to be saved and begin to write it."""
        if PLACE not in checkpoint:
            self._plain.save_checkpoint(checkpoint, path, storage_options)
            return
        self.wait()
        place, part = checkpoint.pop(PLACE), checkpoint.pop(PART, None)
        try:
            tree, tensors = packed(checkpoint)
        except InvalidInputError as error:
            if part is None or part.rank == 0:  # each rank's is the same
                self._failed(error.message)
            return
        self._writing = threading.Thread(target=self._write, args=(Path(path), place, part, tree, tensors), name="mlp-checkpoint")
        self._writing.start()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return a checkpoint whose bytes are checked first; a LearningRateFinder reads back its own, of this process."""
        if Path(path).suffix == ".ckpt":
            found: dict[str, Any] = self._plain.load_checkpoint(path, map_location, weights_only=True)
            return found
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one of a ModelCheckpoint; of ours, publishing a new one takes the oldest away."""
        self._plain.remove_checkpoint(path)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def teardown(self) -> None:
        """Let the last one be written to its end."""
        self.wait()

    def _write(self, folder: Path, place: Mapping[str, Any], part: Part | None, tree: str, tensors: dict[str, torch.Tensor]) -> None:
        def fill(path: Path) -> None:
            safetensors.torch.save_file(tensors, path, {_TREE: tree})

        try:
            if part is None:
                checkpoints.publish(folder, place, fill)
            else:
                checkpoints.publish_part(folder, place, part, fill)
        except Exception as error:  # noqa: BLE001 - a checkpoint that cannot be written must not end the training
            which = f"Part {part.rank + 1} of {part.world} of the" if part else "The"
            why = error.message if isinstance(error, MLPError) else f"{type(error).__name__}: {error}"
            self._failed(f"{which} checkpoint of step {place['step']:,} was not written: {why}")


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint with all its tensors whole, also one in parts.

    Raises:
        Again: its bytes were changed on disk; another attempt takes the one before.
    """
    if path.is_dir():
        return _read_all(path, None)
    if not checkpoints.is_whole(path):
        raise _changed(path)
    return _read(path, {})


def load_part(path: Path, rank: int, world: int, meshes: Meshes) -> dict[str, Any]:
    """Return the checkpoint in a folder of parts as this rank has it, its tensors being spread over the ranks again.

    Taken by as many ranks, it is this rank's own part. Taken by others, every rank reads all parts, one tensor at a time.

    Args:
        meshes: those that the model's tensors are spread over, by the names of their dimensions.

    Raises:
        Again: the bytes of a part that is read were changed on disk; another attempt takes the one before.
    """
    if checkpoints.part_count(path) != world:
        return _read_all(path, meshes)
    part = checkpoints.part_of(path, rank)
    if part is None:
        raise _changed(path)
    return _read(part, meshes)


def _changed(path: Path) -> Again:
    return Again(f"The checkpoint {path.name} was changed on disk.", "The one before it is used.")


def _read(path: Path, meshes: Meshes) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        tree = json.loads(file.metadata()[_TREE])
        found: dict[str, Any] = _unpacked(tree, file.get_tensor, lambda told, _: joined(told, file.get_tensor(told["tensor"]), meshes))
    return found


def _read_all(path: Path, meshes: Meshes | None) -> dict[str, Any]:
    """Put the tensors together of all parts; what is no part of a tensor is the first rank's."""
    files = [checkpoints.part_of(path, rank) for rank in range(checkpoints.part_count(path))]
    if not files or None in files:
        raise _changed(path)
    with ExitStack() as opened:
        handles = [opened.enter_context(safe_open(file, framework="pt")) for file in files]
        trees = [json.loads(handle.metadata()[_TREE]) for handle in handles]
        told = [dict(_parts_in(tree)) for tree in trees]

        def joined_parts(mine: Mapping[str, Any], at: str) -> torch.Tensor:
            each = [one[at] for one in told]
            found = whole(each, [handle.get_tensor(one["tensor"]) for handle, one in zip(handles, each, strict=True)])
            return found if meshes is None else spread(found, mine, meshes)

        found: dict[str, Any] = _unpacked(trees[0], handles[0].get_tensor, joined_parts)
    return found


def _parts_in(value: Any, at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where a packed tree has a part of a tensor, and what is told of it."""
    if not isinstance(value, dict):
        return
    [(kind, held)] = value.items()
    if kind == "part":
        yield at, held
    elif kind in ("dict", "counter"):
        for key, one in held:
            yield from _parts_in(one, f"{at}.{key}")
    elif kind in ("list", "tuple"):
        for number, one in enumerate(held):
            yield from _parts_in(one, f"{at}[{number}]")


def packed(checkpoint: Mapping[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    """Return a checkpoint as JSON text and the tensors it names, copied to this process's memory.

    Raises:
        InvalidInputError: it holds something else than tensors, arrays, numbers, texts and containers of them.
    """
    tensors: dict[str, torch.Tensor] = {}
    return json.dumps(_packed(checkpoint, "", tensors)), tensors


def _packed(value: Any, at: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, DTensor):
        return {"part": {**described(value, at[1:]), **_packed(value.detach().to_local(), at, tensors)}}
    if isinstance(value, torch.Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, torch.Tensor) else "array"
        name = str(len(tensors))
        tensors[name] = _copied(value)
        return {kind: name}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[_packed(key, at, tensors), _packed(one, f"{at}.{key}", tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        items = [_packed(one, f"{at}[{i}]", tensors) for i, one in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    raise InvalidInputError(
        f"No checkpoint is written: the state of this training holds a {type(value).__name__} at {at[1:]}, which is no number or tensor."
    )


def _copied(value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.detach().to("cpu", copy=True).contiguous()


def _unpacked(value: Any, tensor: Callable[[str], torch.Tensor], part: Callable[[Mapping[str, Any], str], Any], at: str = "") -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, held)] = value.items()
    if kind == "tensor":
        return tensor(held)
    if kind == "array":
        return tensor(held).numpy()
    if kind == "part":
        return part(held, at)
    if kind in ("dict", "counter"):
        pairs = {_unpacked(key, tensor, part): _unpacked(one, tensor, part, f"{at}.{key}") for key, one in held}
        return pairs if kind == "dict" else Counter(pairs)
    items = [_unpacked(one, tensor, part, f"{at}[{number}]") for number, one in enumerate(held)]
    return items if kind == "list" else tuple(items)
