"""Snapshots as stored: a manifest that names everything by its hash, so that the snapshot's own name is its content.

    snapshot:<first 32 characters of the sha256 of the manifest>

    manifest    name, pins, inputs, made, parameters, validity, and the hashes of the files below
    files       the notebook with its outputs, the environment, the local modules

An exported snapshot is one zip of the same: manifest.json, and every file under its hash.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
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
_MOST_FILES = 2_000


@dataclass(frozen=True)
class Stored:
    """A snapshot with all its bytes.

    Attributes:
        pins: "kind:name" -> version of everything that the notebook read and did not make itself.
        modules: local modules by their relative path.
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
            "notebook": _hash(self.notebook),
            "environment": _hash(self._environment_bytes),
            "modules": {path: _hash(data) for path, data in self.modules.items()},
            "pins": dict(self.pins),
            "inputs": list(self.inputs),
            "made": list(self.made),
            "parameters": dict(self.parameters),
            "validity": dict(self.validity),
        }
        return canonical(told).encode()

    @property
    def ref(self) -> Ref:
        """The snapshot's reference."""
        return Ref("snapshot", _hash(self.manifest)[:32])

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
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if len(sizes) > _MOST_FILES or max(sizes.values(), default=0) > _LARGEST:
                raise InvalidInputError(f"{path} is too large for a snapshot.", "Ask for it to be exported again.")

            def member(name: str) -> bytes:
                with archive.open(name) as handle:
                    data = handle.read(_LARGEST + 1)
                if len(data) > _LARGEST:
                    raise InvalidInputError(f"{path} is too large for a snapshot.", "Ask for it to be exported again.")
                return data

            def checked(digest: str) -> bytes:
                data = member(digest)
                if _hash(data) != digest:
                    raise InvalidInputError(f"{path} was changed: {digest[:12]} does not hold what its name says.", "Ask for it again.")
                return data

            return _read(member("manifest.json"), checked)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.", "Give snapshot:ID, or the path of an exported snapshot.") from None
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, EOFError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path} is not a snapshot: {str(error)[:80]}", "Give a file that Snapshot.export() wrote.") from error


def _read(manifest: bytes, get: Any) -> Stored:
    told = json.loads(manifest)
    if told.get("format") != _FORMAT:
        raise InvalidInputError(f"The snapshot has format {told.get('format')}, not {_FORMAT}.", "Upgrade: pip install -U jupyter_mlp")
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


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
