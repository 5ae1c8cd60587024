"""Snapshots that leave the workspace: written as one file, with the data they read where that is asked for, and opened from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jupyter_mlp.core.cards import Card, Shown, size_text
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import files, secrets
from jupyter_mlp.store import archives, carried, datasets, fingerprints, registry
from jupyter_mlp.store import snapshots as stored
from jupyter_mlp.store.archives import Archive
from jupyter_mlp.store.carried import Carried
from jupyter_mlp.store.gauges import Progress
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace


@dataclass(frozen=True, repr=False)
class Export(Shown):
    """A snapshot in a file of its own.

    Attributes:
        inside: exact references of the data in the file, and the names of plain files.
        outside: what the notebook read that is not in the file: who verifies it needs them.
    """

    reference: Ref
    path: Path
    bytes: int
    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The snapshot's exact reference, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        told = {"ref": self.ref, "kind": "export", "file": str(self.path), "bytes": self.bytes}
        return {**told, "inside": list(self.inside), "outside": list(self.outside)}

    def card(self) -> Card:
        """Return where it is and what is in it."""
        facts = [
            ("file", f"{self.path} ({size_text(self.bytes)})"),
            ("data inside", ", ".join(map(_short, self.inside)) or "none"),
            ("not inside", ", ".join(map(_short, self.outside)) or "nothing: it can be verified from this file alone"),
        ]
        notes = [f"Check it on any machine: mlp verify {self.path.name}"]
        return Card(f"export of {self.reference.kind}:{self.reference.name[:12]}", facts, notes=notes)


def export(workspace: Workspace, snapshot: Ref, path: Path, with_data: bool, progress: Progress | None = None) -> Export:
    """Write a recorded snapshot as one file.

    Raises:
        StorageError: data that it read is gone or changed, or the file cannot be written.
        InvalidInputError: the path is a folder, or the data is in too many files.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder.", f"Name a file: --export {path / 'study.mlp'}")
    packed = stored.load(workspace, snapshot)
    read = [Ref.parse(one) for one in packed.inputs]
    data, sources = carried.NOTHING, dict[str, Path]()
    if with_data:
        all_there(workspace, read, "Restore it from a backup, or export without --with-data; nothing was written.")
        folder = Path(str(packed.environment.get("folder", "")))
        moved = files.changed(packed.read, folder)
        if moved:
            told = next(iter(moved.values()))
            raise StorageError(f"{told}, and this snapshot read it.", "Put it back, or take the snapshot again and export that one.")
        data, sources = carried.gather(workspace, read, packed.read, folder, progress)
        _no_secrets(workspace, data, sources)
    try:
        archives.export(packed, path, data, sources, progress)
    except StorageError as error:
        hint = f"Name another place; the snapshot itself is kept: mlp snapshot {snapshot} --export FILE"
        raise StorageError(error.message, hint) from error
    by_name = {str(Path(str(packed.environment.get("folder", "")), name)) for name in packed.read}
    named = dict.fromkeys([*(str(ref) for ref in read if unquote(ref.name) not in by_name), *packed.read])
    held = {*data.refs, *data.files}
    return Export(
        snapshot, path, path.stat().st_size, tuple(one for one in named if one in held), tuple(one for one in named if one not in held)
    )


def _no_secrets(workspace: Workspace, data: Carried, sources: Mapping[str, Path]) -> None:
    """Stop where a model's code would carry a secret out."""
    values = secrets.sensitive(workspace.settings.secret_keys.split(","))
    for one in data.versions:
        for name, digest in zip(one.names, one.files, strict=False):
            if name.endswith(".py"):
                found = list(secrets.in_text(sources[digest].read_text("utf-8", "replace"), f"{name} of {one.ref}", values))
                if found:
                    raise InvalidInputError(f"The file would carry a secret. {found[0]}.", "Export it without --with-data.")


def opened(workspace: Workspace, text: str) -> tuple[Stored, Archive | None]:
    """Return the snapshot that `snapshot:<id>` or the path of an exported file means, and that file."""
    if not text.startswith("snapshot:") and ("/" in text or "." in text):
        archive = archives.open_file(Path(text).expanduser())
        return archive.snapshot, archive
    return stored.load(workspace, Ref.parse(text, kind="snapshot")), None


def all_there(workspace: Workspace, refs: Iterable[Ref], hint: str) -> None:
    """Stop when a version is gone, and name it.

    Raises:
        StorageError: one is gone; the hint says what to do.
    """
    for ref in refs:
        try:
            held = _files_of(workspace, ref)
        except (NotFoundError, StorageError) as error:
            raise StorageError(f"{ref} is gone, which this snapshot read: {error.message}", hint) from error
        except OSError as error:  # the table's own description is gone, or cannot be read
            raise StorageError(f"{ref} is gone, which this snapshot read: {error}.", hint) from error
        missing = [path for path in held if not Path(path).exists()]
        if missing:
            raise StorageError(f"{ref} is gone, which this snapshot read: {missing[0]} is missing.", hint)


def _files_of(workspace: Workspace, ref: Ref) -> list[str]:
    """The files that hold a version, as far as it is one that they can be missing of."""
    if ref.kind == "table" and ref.version:
        fingerprints.check(workspace, ref.name, ref.version)
        return workspace.lake.files(ref.name, ref.version)
    if ref.kind == "dataset" and ref.version:
        return datasets.load(workspace, ref).files
    if ref.kind == "model" and not ref.version:  # an alias has one
        return [str(registry.load(workspace, ref).folder)]
    return []


def _short(text: str) -> str:
    return Ref.parse(text).short if text.startswith(("table:", "dataset:", "model:", "file:")) else text
