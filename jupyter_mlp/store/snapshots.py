"""Snapshots as stored: a manifest that names everything by its hash, so that the snapshot's own name is its content.

    snapshot:<first 32 characters of the sha256 of the manifest>

    manifest    name, pins, inputs, made, parameters, validity, and the hashes of the files below
    files       the notebook with its outputs, the environment, the local modules

An exported snapshot is one zip of the same: manifest.json, and every file under its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.identity import canonical
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.artifacts import publish_file
from jupyter_mlp.store.workspace import Workspace

_FORMAT = 1
_LARGEST = 512 * 2**20  # bytes of one file of a snapshot, unpacked
_LARGEST_MANIFEST = 16 * 2**20
_MOST_RATIO, _SMALL = 200, 64 * 2**20  # what packs better than to a two-hundredth is no notebook, where it is large
_MOST_FILES = 2_000
_FIELDS = {"name": str, "notebook": str, "environment": str, "modules": dict, "pins": dict, "inputs": list, "made": list, "validity": dict}
_HASH = re.compile(r"[0-9a-f]{64}")
_NO_SNAPSHOT = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, RecursionError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError),
)


@dataclass(frozen=True)
class Stored:
    """A snapshot with all its bytes.

    Attributes:
        pins: "kind:name" -> version of everything that the notebook read and did not make itself.
        modules: local modules by their relative path.
        read: files that its cells name -> hash of what each held.
        validity: {"state": "strong" or "weak", "reasons": [...]}.
    """

    name: str
    notebook: bytes
    environment: Mapping[str, Any]
    modules: Mapping[str, bytes] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    validity: Mapping[str, Any] = field(default_factory=dict)
    read: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """All bytes by their sha256."""
        return {hashlib.sha256(data).hexdigest(): data for data in (self.notebook, self._environment_bytes, *self.modules.values())}

    @property
    def manifest(self) -> bytes:
        """The manifest; equal snapshots have equal ones."""
        told = {
            "format": _FORMAT,
            "name": self.name,
            "notebook": hash_of(self.notebook),
            "environment": hash_of(self._environment_bytes),
            "modules": {path: hash_of(data) for path, data in self.modules.items()},
            "pins": dict(self.pins),
            "inputs": list(self.inputs),
            "made": list(self.made),
            "parameters": dict(self.parameters),
            "validity": dict(self.validity),
            "read": dict(self.read),
        }
        return canonical(told).encode()

    @property
    def ref(self) -> Ref:
        """The snapshot's reference."""
        return Ref("snapshot", hash_of(self.manifest)[:32])

    @property
    def _environment_bytes(self) -> bytes:
        return canonical(dict(self.environment)).encode()


def save(workspace: Workspace, snapshot: Stored) -> str:
    """Store a snapshot's bytes, each once for ever, and return the hash of its manifest."""
    for data in snapshot.files.values():
        workspace.artifacts.put(data)
    return workspace.artifacts.put(snapshot.manifest)


def load(workspace: Workspace, ref: Ref) -> Stored:
    """Return a recorded snapshot.

    Raises:
        NotFoundError: there is none of that id. StorageError: some of its bytes are gone.
    """
    exact = _complete(workspace, ref)
    maker = workspace.activities.maker(exact)
    if maker is None:
        raise NotFoundError(f"There is no {ref} in this workspace.", "mlp status lists the newest.")
    return _read(workspace.artifacts.get(maker.facts["manifest"]), workspace.artifacts.get)


def export(snapshot: Stored, path: Path) -> Path:
    """Write a snapshot as one file and return its path."""

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", snapshot.manifest)
            for name, data in sorted(snapshot.files.items()):
                archive.writestr(name, data)

    publish_file(path, write)
    return path


def open_file(path: Path) -> Stored:
    """Return the snapshot in an exported file; nothing is unpacked to disk, and every byte is checked against its hash.

    Raises:
        NotFoundError: there is no such file. InvalidInputError: it is no snapshot, or was changed.
    """
    try:
        with path.open("rb") as handle:
            _bounded(handle, path)
            with zipfile.ZipFile(handle) as archive:
                members = _members(archive, path)

                def checked(digest: str) -> bytes:
                    data = archive.read(members[digest])
                    if hash_of(data) != digest:
                        raise InvalidInputError(f"{path} was changed: {digest[:12]} does not hold what its name says.", "Ask for it again.")
                    return data

                read = _read(archive.read(members["manifest.json"]), checked)
                if {"manifest.json", *read.files} != members.keys():
                    raise InvalidInputError(
                        f"{path} holds files that its manifest does not name.", "Do not use this file; ask for it again."
                    )
                return read
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.", "Give snapshot:ID, or the path of an exported snapshot.") from None
    except (InvalidInputError, MemoryError):
        raise
    except _NO_SNAPSHOT as error:
        raise InvalidInputError(f"{path} is not a snapshot: {str(error)[:80]}", "Give a file that Snapshot.export() wrote.") from error


def _bounded(handle: Any, path: Path) -> None:
    """Refuse a file whose list of members alone would take long to read: the list's size stands at the file's end."""
    size = handle.seek(0, 2)
    handle.seek(max(0, size - 65_557))
    tail = handle.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise InvalidInputError(f"{path} is not a snapshot: it has no list of members.", "Give a file that Snapshot.export() wrote.")
    count, listed = int.from_bytes(tail[at + 10 : at + 12], "little"), int.from_bytes(tail[at + 12 : at + 16], "little")
    if count > _MOST_FILES or listed > _MOST_FILES * 256:
        raise _too_large(path)
    handle.seek(0)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by name: plain files named by their hash, each once, of a size that somebody meant."""
    found: dict[str, zipfile.ZipInfo] = {}
    for one in archive.infolist():
        kind = one.external_attr >> 28
        plain = kind in (0, 0o10) and not one.is_dir() and not one.flag_bits & 1
        if not plain or one.filename in found or not (one.filename == "manifest.json" or _HASH.fullmatch(one.filename)):
            hint = "Do not use this file; a snapshot has plain files that are named by their hashes."
            raise InvalidInputError(f"{path} is not a snapshot: it has a member {one.filename[:60]!r}.", hint)
        if one.file_size > _LARGEST or one.file_size > _MOST_RATIO * max(one.compress_size, _SMALL):
            raise _too_large(path)
        found[one.filename] = one
    if (
        sum(one.file_size for one in found.values()) > _LARGEST
        or found.get("manifest.json", archive.infolist()[0]).file_size > _LARGEST_MANIFEST
    ):
        raise _too_large(path)
    return found


def _too_large(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{path} is too large for a snapshot.", "Ask for it to be exported again.")


def _read(manifest: bytes, get: Any) -> Stored:
    told = json.loads(manifest)
    if not isinstance(told, dict):
        raise ValueError("its manifest is no object")
    for name, kind in _FIELDS.items():
        if told.get("format") == _FORMAT and not isinstance(told[name], kind):
            raise ValueError(f"its {name} is no {kind.__name__}")
    if told.get("format") != _FORMAT:
        raise InvalidInputError(f"The snapshot has format {told.get('format')}, not {_FORMAT}.", "Upgrade: pip install -U jupyter_mlp")
    read = told.get("read", {})  # snapshots of before had none
    if not isinstance(read, dict) or not all(isinstance(one, str) for one in read.values()):
        raise ValueError("what it read is no object of texts")
    modules = {path: get(digest) for path, digest in told["modules"].items() if _is_inside(path)}
    return Stored(
        told["name"],
        get(told["notebook"]),
        json.loads(get(told["environment"])),
        modules,
        told["pins"],
        tuple(told["inputs"]),
        tuple(told["made"]),
        told["parameters"],
        told["validity"],
        read,
    )


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or not path.endswith(".py"):
        raise InvalidInputError(f"The snapshot names a module {path!r}, which no snapshot can have.", "Do not use this file.")
    return True


def _complete(workspace: Workspace, ref: Ref) -> Ref:
    """Complete an id that is given by its first characters."""
    known = workspace.activities.names("snapshot")
    starting = [name for name in known if name.startswith(ref.name)] if len(ref.name) >= 4 else []
    return Ref("snapshot", starting[0]) if len(starting) == 1 else ref


def hash_of(data: bytes) -> str:
    """Return the name that bytes have in a snapshot."""
    return hashlib.sha256(data).hexdigest()
