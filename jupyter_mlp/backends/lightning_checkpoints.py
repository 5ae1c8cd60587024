"""Lightning's CheckpointIO as ours: a snapshot to memory, a file written beside the training, and never a pickle.

A checkpoint is a tree of dicts, lists and plain values with tensors in it. The tensors go into a safetensors file and the
rest, with their numbers in place of the tensors, as JSON into its header; nothing that is read from it can run.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import safe_open

from jupyter_mlp.core.errors import InvalidInputError, MLPError
from jupyter_mlp.store import checkpoints
from jupyter_mlp.store.jobs import Again

PLACE = "mlp.place"  # the part of a checkpoint that its manifest repeats
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
        place = checkpoint.pop(PLACE)
        try:
            tree, tensors = packed(checkpoint)
        except InvalidInputError as error:
            self._failed(error.message)
            return
        self._writing = threading.Thread(target=self._write, args=(Path(path), place, tree, tensors), name="mlp-checkpoint")
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

    def _write(self, folder: Path, place: Mapping[str, Any], tree: str, tensors: dict[str, torch.Tensor]) -> None:
        try:
            checkpoints.publish(folder, place, lambda path: safetensors.torch.save_file(tensors, path, {_TREE: tree}))
        except MLPError as error:
            self._failed(f"The checkpoint of step {place['step']:,} was not written: {error.message}")
        except Exception as error:  # noqa: BLE001 - a checkpoint that cannot be written must not end the training
            self._failed(f"The checkpoint of step {place['step']:,} was not written: {type(error).__name__}: {error}")


def load(path: Path) -> dict[str, Any]:
    """Return the checkpoint in a file.

    Raises:
        Again: its bytes were changed on disk; another attempt takes the one before.
    """
    if not checkpoints.is_whole(path):
        raise Again(f"The checkpoint {path.name} was changed on disk.", "The one before it is used.")
    with safe_open(path, framework="pt") as file:
        tree = json.loads(file.metadata()[_TREE])
        found: dict[str, Any] = _unpacked(tree, file.get_tensor)
    return found


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


def _unpacked(value: Any, tensor: Callable[[str], torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, held)] = value.items()
    if kind == "tensor":
        return tensor(held)
    if kind == "array":
        return tensor(held).numpy()
    if kind in ("dict", "counter"):
        pairs = {_unpacked(key, tensor): _unpacked(one, tensor) for key, one in held}
        return pairs if kind == "dict" else Counter(pairs)
    items = [_unpacked(one, tensor) for one in held]
    return items if kind == "list" else tuple(items)
