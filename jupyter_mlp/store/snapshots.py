"""Snapshots as stored: a manifest that names everything by its hash, so that the snapshot's own name is its content.

snapshot:<first 32 characters of the sha256 of the manifest>

manifest    name, pins, inputs, made, parameters, validity, and the hashes of the files below
files       the notebook with its outputs, the environment, the local modules
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.identity import canonical
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

_FORMAT = 1
_FIELDS = {"name": str, "notebook": str, "environment": str, "modules": dict, "pins": dict, "inputs": list, "made": list, "validity": dict}
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """A snapshot with all its bytes.

    Attributes:
        pins: "kind:name" -> version of everything that the notebook read and did not make itself; of an alias, its model.
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
    return read(workspace.artifacts.get(maker.facts["manifest"]), workspace.artifacts.get)


def read(manifest: bytes, get: Callable[[str], bytes]) -> Stored:
    """Return the snapshot of a manifest; `get` gives the bytes of a hash.

    Raises:
        InvalidInputError: its format is another, or it names a module that no snapshot can have.
        KeyError, TypeError, ValueError: it is no manifest.
    """
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
        _environment(json.loads(get(told["environment"]))),
        modules,
        told["pins"],
        tuple(told["inputs"]),
        tuple(told["made"]),
        told["parameters"],
        told["validity"],
        read,
    )


def _environment(told: Any) -> dict[str, Any]:
    """What it was made with, of the types that `environment.exact` gives; snapshots of before named less."""
    if not isinstance(told, dict) or not isinstance(told.get("python"), str) or "packages" not in told:
        raise ValueError("its environment names no Python and packages")
    for name in ("packages", "origins", "builds"):
        one = told.get(name, {})
        if not isinstance(one, dict) or not all(isinstance(value, str) for value in one.values()):
            raise ValueError(f"its {name} are no object of texts")
    gpus = told.get("gpus", [])
    if not isinstance(gpus, list) or not all(isinstance(value, str) for value in gpus):
        raise ValueError("its gpus are no list of texts")
    return told


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


def is_hash(text: str) -> bool:
    """Whether a text can be such a name."""
    return bool(_HASH.fullmatch(text))
