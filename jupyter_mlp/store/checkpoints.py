"""Checkpoints of a run: the last few, each whole and hashed, or not there.

    runs/<id>/checkpoints/
      000000400.safetensors   everything that training goes on from: tensors, and one JSON text for the rest; no pickle
      000000400.json          its size and sha256, the step, and where log and events stood; written last

Nothing here knows torch: the supervisor, which does not import it, chooses the one to go on from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core.identity import digest
from jupyter_mlp.store.artifacts import publish_bytes, publish_file, sha256_of

KEPT = 2  # the newest, and one before it for the case that the newest is found corrupt
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A place that training can go on from.

    Attributes:
        step: batches done. `epoch`, `batch`: the same as the place in the data.
        events: size of events.jsonl then, in bytes. `logs`: of every rank's log.
    """

    path: Path
    step: int
    epoch: int
    batch: int
    events: int
    logs: tuple[int, ...]


def publish(folder: Path, place: Mapping[str, Any], write: Callable[[Path], object]) -> None:
    """Let `write` fill the file of a checkpoint and make it the newest; older ones than the last few go.

    Args:
        place: the fields of Checkpoint besides `path`.

    Raises:
        StorageError: the disk is full or failing; the checkpoints before are still there.
    """
    name = f"{place['step']:09}"
    file = folder / (name + _SUFFIX)
    (folder / f"{name}.json").unlink(missing_ok=True)  # of an attempt before: bytes and hash change together
    sha256 = publish_file(file, write)
    manifest = {**place, "size": file.stat().st_size, "sha256": sha256}
    publish_bytes(folder / f"{name}.json", json.dumps({**manifest, "digest": digest(manifest)}).encode())
    for old in _manifests(folder)[KEPT:]:
        old.unlink(missing_ok=True)
        old.with_suffix(_SUFFIX).unlink(missing_ok=True)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint whose every byte is as it was written, and a sentence for each newer one that is not.

    Those are put aside, so that they are not counted among the last few any more.
    """
    said: list[str] = []
    for manifest in _manifests(folder):
        found, fault = _checked(manifest)
        if found is not None:
            return found, said
        said.append(f"The checkpoint of step {int(manifest.stem):,} is not used: {fault}.")
        manifest.rename(manifest.with_suffix(".corrupt"))
    return None, said


def is_whole(path: Path) -> bool:
    """Whether the file of a checkpoint is what was written."""
    return _checked(path.with_suffix(".json"))[0] is not None


def _manifests(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.json") if path.stem.isdigit()), reverse=True) if folder.is_dir() else []


def _checked(path: Path) -> tuple[Checkpoint | None, str]:
    manifest = _read(path)
    if manifest is None:
        return None, "its manifest was damaged"
    file = path.with_suffix(_SUFFIX)
    if not file.is_file():
        return None, "its file is gone"
    if file.stat().st_size != manifest["size"]:
        return None, f"it has {file.stat().st_size:,} bytes and was written with {manifest['size']:,}"
    if sha256_of(file) != manifest["sha256"]:
        return None, "its bytes were changed on disk"
    place = {name: manifest[name] for name in ("step", "epoch", "batch", "events")}
    return Checkpoint(file, **place, logs=tuple(manifest["logs"])), ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        said = manifest.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return manifest if said == digest(manifest) else None
