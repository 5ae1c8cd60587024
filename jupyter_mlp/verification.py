"""Repeat: whether a snapshot gives the same again, cell by cell, in a fresh process on exactly its data."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jupyter_mlp import snapshot_files
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.notebook import cell_tags, document, files, running, virtual_environments
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.notebook.verdicts import ADDED, ENVIRONMENT, GOOD, HARDWARE, UNKNOWN, CellVerdict, verdicts
from jupyter_mlp.store import carried, environment, jobs, modes
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace, current

_NOTHING_RAN = "Restore it from a backup and verify again; nothing was run."
_NOT_INSIDE = "Ask for the file with its data (mlp snapshot {id} --export FILE --with-data); nothing was run."

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """A snapshot run again, cell by cell.

    Attributes:
        ok: whether every cell that can be compared gave the same. `report`: path of a self-contained HTML page.
    """

    reference: Ref
    snapshot: Ref
    cells: tuple[CellVerdict, ...]
    notes: tuple[str, ...] = ()
    report: Path | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no cell failed, was left out, or showed something else."""
        return all(cell.verdict in GOOD for cell in self.cells)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdicts as JSON types."""
        return {
            "ref": self.ref,
            "kind": "verification",
            "snapshot": str(self.snapshot),
            "ok": self.ok,
            "cells": [cell.to_dict() for cell in self.cells],
            "notes": list(self.notes),
            "report": str(self.report) if self.report else None,
            "seconds": round(self.seconds, 2),
        }

    def card(self) -> Card:
        """Return the verdict and the cells."""
        counted = Counter(cell.verdict for cell in self.cells)
        verdict = "It gives the same again." if self.ok else "It does NOT give the same again."
        facts: list[tuple[str, Any]] = [("snapshot", str(self.snapshot)), ("verdict", verdict)]
        facts += [("cells", ", ".join(f"{count} {what}" for what, count in counted.items())), ("took", f"{self.seconds:,.1f} s")]
        facts += [("report", self.report)] if self.report else []  # the page itself does not know where it will be
        rows = [[cell.number, _first_line(cell.source), cell.verdict, cell.cause, cell.detail] for cell in self.cells]
        return Card(
            f"verification of {self.snapshot.kind}:{self.snapshot.name[:12]}",
            facts,
            [Table(["cell", "source", "verdict", "cause", "detail"], rows)],
            notes=self.notes,
        )


def verify(snapshot: str | Shown, *, full: bool = False, fresh_environment: bool = False, progress: Progress | None = None) -> Verification:
    """Run a snapshot again in a fresh process on exactly its data, and return one verdict per cell.

    Effects go into a scratch workspace that is dropped afterwards; recorded versions are read, never written.

    Args:
        snapshot: `snapshot:<id>` (its first characters are enough) or the path of an exported file.
        full: train again too, instead of replaying the record of a training run.
        fresh_environment: run it in a new virtual environment with exactly the packages that the snapshot names, instead of in
            this one.

    Raises:
        NotFoundError: there is no such snapshot.
        StorageError: a data version that it read is gone; nothing has run then.
        MissingPackageError: its environment cannot be made here; nothing has run then.

    Example:
        >>> mlp.verify("snapshot:1f3c9a2b").ok
        True
    """
    begun = time.perf_counter()
    if modes.verifying():
        raise InvalidInputError("A verification does not verify again.", "Verify the snapshot from a notebook or a terminal.")
    workspace = current()
    packed, archive = snapshot_files.opened(workspace, named(snapshot))
    inside = archive.carried if archive else carried.NOTHING
    needed = [*(Ref.parse(f"{name}@{version}") for name, version in packed.pins.items()), *map(Ref.parse, map(str, packed.inputs))]
    missing = _NOT_INSIDE.format(id=packed.ref) if archive else _NOTHING_RAN
    snapshot_files.all_there(workspace, [ref for ref in needed if str(ref) not in inside.refs], missing)
    place = virtual_environments.made(packed.environment, progress) if fresh_environment else None
    how = {"full": full, "fresh_environment": fresh_environment}
    with workspace.activities.recording("verify", name=packed.name, used=[packed.ref], parameters=how) as draft:
        before = document.of_bytes(packed.notebook)
        with _scratch(workspace, packed) as (scratch, folder, variables):
            source = cell_tags.in_nbclients_words(_with_modules(before, packed, folder))
            output = folder / "notebook.ipynb"
            told = {**variables, **(place.variables if place else {}), **({} if full else {"MLP_REPLAY": "1"})}
            here = folder / "files" if inside.files else _folder(packed, folder)
            if archive:
                archive.unpack(scratch, here, progress)
            other_files = files.changed(packed.read, here)
            python = place.python if place else None
            ending = running.run(source, output, environment=told, folder=here, progress=progress, python=python)
        ours = environment.exact()
        changed = environment.changed(packed.environment, place.described if place else ours)
        hardware = environment.other_hardware(packed.environment, ours)
        judged = packed.validity.get("cells", ())
        unsound = [at for at, cell in enumerate(judged) if cell["state"] != "valid"]
        cells = tuple(verdicts(before, ending.output, _otherwise(changed, hardware), unsound, other_files))
        made = Ref("verification", draft.activity.id)
        notes = place.told if place else []
        notes += [f"In another environment: {changed}"] if changed else []
        notes += [f"On other hardware: {hardware}"] if hardware else []
        if not all(cell.verdict in GOOD for cell in cells):
            notes += [f"{told}." for told in other_files.values()][:5]
        notes += [f"The run {ending.state}: {ending.error}".splitlines()[0]] if ending.state != running.COMPLETED else []
        found = Verification(made, packed.ref, cells, tuple(notes), seconds=time.perf_counter() - begun)
        found = _published(workspace, found)
        draft.made.append(made)
        draft.facts.update(found.to_dict())
    return found


def _otherwise(changed: str, hardware: str) -> str:
    """The cause of a difference that the notebook does not explain."""
    return ENVIRONMENT if changed else HARDWARE if hardware else UNKNOWN


@contextmanager
def _scratch(workspace: Workspace, packed: Stored) -> Iterator[tuple[Workspace, Path, dict[str, str]]]:
    """A workspace that looks through to the real one; dropped at the end with everything that it started."""
    root = workspace.root / "scratch" / new_id()
    folder = root / "verification"
    folder.mkdir(parents=True, mode=0o700)
    publish_bytes(folder / "pins.json", json.dumps(dict(packed.pins)).encode())
    variables = {"MLP_WORKSPACE": str(root), "MLP_PARENT": str(workspace.root), "MLP_PINS": str(folder / "pins.json"), "MLP_VERIFY": "1"}
    scratch = Workspace(root, workspace)
    try:
        yield scratch, folder, variables
    finally:
        _drop(scratch)


def _drop(scratch: Workspace) -> None:
    from jupyter_mlp.serving import places

    places.stop_all(scratch)
    if (scratch.root / "records.db").exists():
        for activity in scratch.activities.recent(["train"], state="running"):
            jobs.cancel(jobs.folder_of(scratch, activity.id))
    shutil.rmtree(scratch.root, ignore_errors=True)


def _with_modules(before: Document, packed: Stored, folder: Path) -> Document:
    """The notebook to run: its own modules are found before those that lie in its folder today."""
    import nbformat

    if not packed.modules:
        return before
    for path, data in packed.modules.items():
        publish_bytes(folder / "modules" / path, data)
    line = f"import sys; sys.path.insert(0, {str(folder / 'modules')!r})"
    first = nbformat.v4.new_code_cell(line, metadata={"tags": [ADDED]})
    return replace(before, node=nbformat.from_dict({**before.node, "cells": [first, *before.node.cells]}))


def _folder(packed: Stored, folder: Path) -> Path:
    """The notebook's own folder, where it is on this machine: it may read files that lie there."""
    own = Path(str(packed.environment.get("folder", "")))
    return own if own.is_absolute() and own.is_dir() else folder


def _published(workspace: Workspace, found: Verification) -> Verification:
    from jupyter_mlp.reports.pages import page

    key = workspace.artifacts.put(page(found.card()).encode(), ".html")
    return replace(found, report=workspace.artifacts.path(key, ".html"))


def _first_line(source: str) -> str:
    return source.strip().splitlines()[0][:60]
