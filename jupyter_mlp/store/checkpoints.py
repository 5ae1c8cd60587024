"""Checkpoints of a run: the last few, each whole and hashed, or not there.

    runs/<id>/checkpoints/
      000000400.safetensors   everything that training goes on from: tensors, and one JSON text for the rest; no pickle
      000000400.json          its size and sha256, the step, and where log and events stood; written last
    runs/<id>/origin/         the one of another run that this one goes on from
    runs/<id>/last/           the place behind the last epoch, for another run that trains on

of a training whose processes each hold a part of the model:

      000000400/00001.safetensors   the part of rank 1; 00001.json its size and sha256, and of which checkpoint it is a part
      000000400.json                size and sha256 of every part; written by whoever finds all parts there

Nothing here knows torch: the supervisor, which does not import it, chooses the one to go on from.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core.identity import digest
from jupyter_mlp.store.artifacts import publish_bytes, publish_file, sha256_of

OWN, ORIGIN, LAST = "checkpoints", "origin", "last"
KEPT = 2  # the newest, and one before it for the case that the newest is found corrupt
_SUFFIX = ".safetensors"
_PARTS = "parts"  # of a manifest: size and sha256 of each rank's file


@dataclass(frozen=True)
class Part:
    """Which part of a checkpoint a rank holds.

    Attributes:
        of: the same for all parts of one checkpoint, and for no others: a killed attempt may have left some of the same step.
    """

    rank: int
    world: int
    of: str


@dataclass(frozen=True)
class Checkpoint:
    """A place that training can go on from.

    Attributes:
        path: its file, or the folder of its parts.
        step: batches done. `epoch`, `batch`: the same as the place in the data.
        events: size of events.jsonl then, in bytes. `logs`: of every rank's log.
        share: how the ranks share the epoch (shares.py); None where the batches are of the user's own code.
    """

    path: Path
    step: int
    epoch: int
    batch: int
    events: int
    logs: tuple[int, ...]
    share: Mapping[str, Any] | None = None

    @property
    def sha256(self) -> str:
        """The digest of its bytes, or of those of all its parts."""
        manifest = _read(self.path.with_suffix(".json")) or {}
        return digest(manifest[_PARTS]) if _PARTS in manifest else str(manifest["sha256"])

    @property
    def is_in_parts(self) -> bool:
        """Whether each of the processes that took it had a part of the model."""
        return self.path.is_dir()

    @property
    def is_of_another(self) -> bool:
        """Whether it is of the run that this one goes on from."""
        return self.path.parent.name == ORIGIN


def publish(folder: Path, place: Mapping[str, Any], write: Callable[[Path], object]) -> None:
    """Let `write` fill the file of a checkpoint and make it the newest; older ones than the last few go.

    Args:
        place: the fields of Checkpoint besides `path`.

    Raises:
        StorageError: the disk is full or failing; the checkpoints before are still there.
    """
    name = _name(place)
    file = folder / (name + _SUFFIX)
    (folder / f"{name}.json").unlink(missing_ok=True)  # of an attempt before: bytes and hash change together
    _publish_manifest(folder, place, _written(file, write))


def publish_part(folder: Path, place: Mapping[str, Any], part: Part, write: Callable[[Path], object]) -> None:
    """Let `write` fill the file of one rank's part; with the last part the checkpoint is there, and older ones go.

    No rank waits for another: each looks whether all parts are there once its own is, and two that find it at once write the same.

    Raises:
        StorageError: the disk is full or failing; the checkpoints before are still there.
    """
    inside = folder / _name(place)
    (folder / f"{_name(place)}.json").unlink(missing_ok=True)
    word = _part(inside, part.rank).with_suffix(".json")
    word.unlink(missing_ok=True)
    publish_bytes(word, json.dumps({"of": part.of, **_written(_part(inside, part.rank), write)}).encode())
    found = [_word(inside, rank, part.of) for rank in range(part.world)]
    if all(found):
        _publish_manifest(folder, place, {_PARTS: found})


def keep(folder: Path, count: int) -> None:
    """Remove all but the newest few."""
    for old in _manifests(folder)[count:]:
        old.unlink(missing_ok=True)
        old.with_suffix(_SUFFIX).unlink(missing_ok=True)
        shutil.rmtree(old.with_suffix(""), ignore_errors=True)


def adopt(found: Checkpoint, run: Path) -> None:
    """Let another run's folder have a checkpoint of its own to go on from; the bytes are the same, and on disk once where that can be."""
    folder = run / ORIGIN
    folder.mkdir(parents=True, exist_ok=True)
    if found.is_in_parts:
        shutil.copytree(found.path, folder / found.path.name, copy_function=_linked)
    else:
        _linked(found.path, folder / found.path.name)
    publish_bytes(folder / f"{found.path.stem}.json", found.path.with_suffix(".json").read_bytes())


def _linked(file: str | Path, to: str | Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def last_step(run: Path) -> int | None:
    """Return the step of a run's newest checkpoint, unchecked; None where it has none."""
    found = [path for name in (OWN, ORIGIN) for path in _manifests(run / name)]
    return int(found[0].stem) if found else None


def last(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return what a run goes on from: its newest checkpoint or, while it has none of its own, the one that it began with."""
    found, said = newest(run / OWN)
    if found is None:
        found, more = newest(run / ORIGIN)
        said += more
    return found, said


def settle(run: Path) -> None:
    """Keep of a run that has finished the one place that others train on from."""
    ended = bool(_manifests(run / LAST))
    keep(run / OWN, 0 if ended else 1)
    for name in (ORIGIN, *([OWN] if ended else [])):
        shutil.rmtree(run / name, ignore_errors=True)


def of_finished(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return where others train on from a run that has finished."""
    found, said = newest(run / LAST)
    if found is None:
        found, more = newest(run / OWN)  # its own limit had ended it within an epoch
        said += more
    return found, said


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


def part_count(path: Path) -> int:
    """Return how many processes have each written a part of a checkpoint; 0 for one that is whole, or whose manifest was damaged."""
    return len((_read(path.with_suffix(".json")) or {}).get(_PARTS, ()))


def part_of(path: Path, rank: int) -> Path | None:
    """Return the file of a rank's part of a checkpoint; None where it is not what was written."""
    manifest = _read(path.with_suffix(".json")) or {}
    parts = manifest.get(_PARTS, ())
    if rank >= len(parts) or _fault(_part(path, rank), parts[rank]):
        return None
    return _part(path, rank)


def _name(place: Mapping[str, Any]) -> str:
    return f"{place['step']:09}"


def _part(inside: Path, rank: int) -> Path:
    return inside / f"{rank:05}{_SUFFIX}"


def _word(inside: Path, rank: int, of: str) -> dict[str, Any] | None:
    """Return what a rank said of its part, if it is one of this checkpoint."""
    try:
        word: dict[str, Any] = json.loads(_part(inside, rank).with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return {"size": word["size"], "sha256": word["sha256"]} if word["of"] == of else None


def _written(file: Path, write: Callable[[Path], object]) -> dict[str, Any]:
    sha256 = publish_file(file, write)
    return {"size": file.stat().st_size, "sha256": sha256}


def _publish_manifest(folder: Path, place: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    manifest = {**place, **files}
    publish_bytes(folder / f"{_name(place)}.json", json.dumps({**manifest, "digest": digest(manifest)}).encode())
    keep(folder, KEPT)
    for parts in (path for path in folder.iterdir() if path.is_dir() and path.name.isdigit() and path.name < _name(place)):
        if not parts.with_suffix(".json").exists():  # of an older one, or of one that a kill left without its other parts
            shutil.rmtree(parts, ignore_errors=True)


def _manifests(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.json") if path.stem.isdigit()), reverse=True) if folder.is_dir() else []


def _checked(path: Path) -> tuple[Checkpoint | None, str]:
    manifest = _read(path)
    if manifest is None:
        return None, "its manifest was damaged"
    if _PARTS in manifest:
        file = path.with_suffix("")
        faults = (_fault(_part(file, rank), one) for rank, one in enumerate(manifest[_PARTS]))
        fault = next((f"in part {rank + 1} of {len(manifest[_PARTS])}, {found}" for rank, found in enumerate(faults) if found), "")
    else:
        file = path.with_suffix(_SUFFIX)
        fault = _fault(file, manifest)
    if fault:
        return None, fault
    place = {name: manifest[name] for name in ("step", "epoch", "batch", "events")}
    return Checkpoint(file, **place, logs=tuple(manifest["logs"]), share=manifest.get("share")), ""


def _fault(file: Path, known: Mapping[str, Any]) -> str:
    """Say how a file differs from what was written; "" where it does not."""
    if not file.is_file():
        return "its file is gone"
    if file.stat().st_size != known["size"]:
        return f"it has {file.stat().st_size:,} bytes and was written with {known['size']:,}"
    return "its bytes were changed on disk" if sha256_of(file) != known["sha256"] else ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        said = manifest.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return manifest if said == digest(manifest) else None
