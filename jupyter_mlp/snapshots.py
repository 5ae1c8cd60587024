"""Repeat: a notebook, its data versions and its environment under one id, and whether it gives the same again."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, MLPError, NotFoundError, StorageError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import capture, compare, document, files, record, running, secrets
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.notebook.verdicts import ADDED, GOOD, CellVerdict, verdicts
from jupyter_mlp.store import datasets, environment, fingerprints, jobs, modes
from jupyter_mlp.store import snapshots as stored
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace, current

_NOTHING_RAN = "Restore it from a backup and verify again; nothing was run."
_INPUTS = ("table", "dataset", "model", "file")

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, repr=False)
class Snapshot(Shown):
    """A notebook that can be run again: what it was, what it read, what it showed.

    Attributes:
        inputs: exact versions of everything it read and did not make itself. `made`: what it made.
        cells: the sources of its code cells.
        validity: `strong`, or `weak` with the reasons why a clean run may give something else.
    """

    reference: Ref
    name: str
    inputs: tuple[Ref, ...]
    made: tuple[Ref, ...]
    cells: tuple[str, ...]
    validity: str
    reasons: tuple[str, ...]
    packages: int
    workspace: Workspace

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def export(self, path: str | Path) -> Path:
        """Write it as one file that `mlp verify FILE` reads elsewhere, and return the file's path."""
        return stored.export(stored.load(self.workspace, self.reference), Path(path).expanduser().absolute())

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the outputs, as JSON types."""
        return {
            "ref": self.ref,
            "kind": "snapshot",
            "name": self.name,
            "inputs": [str(ref) for ref in self.inputs],
            "made": [str(ref) for ref in self.made],
            "cells": list(self.cells),
            "validity": self.validity,
            "reasons": list(self.reasons),
        }

    def card(self) -> Card:
        """Return what it ties together."""
        counted = Counter(ref.kind for ref in self.made)
        facts = [
            ("cells", len(self.cells)),
            ("read", ", ".join(ref.short for ref in self.inputs) or "nothing but what it made"),
            ("made", ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counted.items()) or "nothing"),
            ("environment", f"{self.packages} packages"),
            ("validity", self.validity),
        ]
        notes = [*(f"weak: {reason}" for reason in self.reasons), f"Check it: mlp verify {self.reference.kind}:{self.reference.name[:12]}"]
        return Card(f"{self.reference.kind}:{self.reference.name}", facts, notes=notes)


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
        rows = [[cell.number, _first_line(cell.source), cell.verdict, cell.cause, cell.detail] for cell in self.cells]
        return Card(
            f"verification of {self.snapshot.kind}:{self.snapshot.name[:12]}",
            [*facts, ("report", self.report)],
            [Table(["cell", "source", "verdict", "cause", "detail"], rows)],
            notes=self.notes,
        )


def snapshot(notebook: str | Path | None = None, *, weak: bool = False) -> Snapshot:
    """Tie a notebook, the exact data it read and its environment to one id, and return it.

    Args:
        notebook: a notebook file with its outputs; left out inside a kernel: the cells that ran in it so far.
        weak: take it even where a clean run would not give what is shown; it is labelled so, and the cells are named.

    Raises:
        InvalidInputError: there is no cell to tie, a clean run would not give what some of them show, or there is a secret in them.

    Example:
        >>> mlp.snapshot().export("delays.mlp")
    """
    workspace = current()
    path = document.running_path()
    file = document.read(notebook) if notebook is not None else document.read(path) if path else None
    recorded = record.of_file(file) if notebook is not None and file else record.of_kernel(file)
    if not recorded.document.cells:
        raise InvalidInputError("No cell has run yet.", "Run the notebook first, or name a file: %mlp_snapshot NOTEBOOK.ipynb")
    if recorded.reasons and not weak:
        raise _refused(recorded)
    used, made = _tied(workspace, recorded.document, from_kernel=notebook is None)
    packed = _pack(recorded, file, used, made)
    _no_secrets(workspace, recorded.document, packed)
    with workspace.activities.recording("snapshot", name=packed.name, used=[*used, *made]) as draft:
        draft.facts["manifest"] = stored.save(workspace, packed)
        draft.made.append(packed.ref)
    return _snapshot(workspace, packed)


def verify(snapshot: str, *, full: bool = False, progress: Progress | None = None) -> Verification:
    """Run a snapshot again in a fresh process on exactly its data, and return one verdict per cell.

    Effects go into a scratch workspace that is dropped afterwards; recorded versions are read, never written.

    Args:
        snapshot: `snapshot:<id>` (its first characters are enough) or the path of an exported file.
        full: train again too, instead of replaying the record of a training run.

    Raises:
        NotFoundError: there is no such snapshot.
        StorageError: a data version that it read is gone; nothing has run then.

    Example:
        >>> mlp.verify("snapshot:1f3c9a2b").ok
        True
    """
    begun = time.perf_counter()
    if modes.verifying():
        raise InvalidInputError("A verification does not verify again.", "Verify the snapshot from a notebook or a terminal.")
    workspace = current()
    packed = _open(workspace, str(snapshot))
    _all_there(workspace, packed.pins)
    with workspace.activities.recording("verify", name=packed.name, used=[packed.ref], parameters={"full": full}) as draft:
        before = _document(packed.notebook)
        with _scratch(workspace, packed) as (folder, variables):
            source = _with_modules(before, packed, folder)
            output = folder / f"{packed.name}.ipynb"
            told = variables if full else {**variables, "MLP_REPLAY": "1"}
            here = _folder(packed, folder)
            other_files = files.changed(packed.read, here)
            ending = running.run(source, output, environment=told, folder=here, progress=progress)
        changed = environment.changed(packed.environment)
        judged = packed.validity.get("cells", ())
        unsound = [place for place, cell in enumerate(judged) if cell["state"] != "valid"]
        cells = tuple(verdicts(before, ending.output, changed, unsound, other_files))
        made = Ref("verification", draft.activity.id)
        notes = [f"In another environment: {changed}"] if changed else []
        if not all(cell.verdict in GOOD for cell in cells):
            notes += [f"{told}." for told in other_files.values()][:5]
        notes += [f"The run {ending.state}: {ending.error}".splitlines()[0]] if ending.state != running.COMPLETED else []
        found = Verification(made, packed.ref, cells, tuple(notes), seconds=time.perf_counter() - begun)
        found = _published(workspace, found)
        draft.made.append(made)
        draft.facts.update(found.to_dict())
    return found


def _no_secrets(workspace: Workspace, kept: Document, packed: Stored) -> None:
    """Stop when a snapshot would carry a secret, and say where; the secret itself is not repeated."""
    values = secrets.sensitive(workspace.settings.secret_keys.split(","))
    found = [*secrets.in_notebook(kept.node, values), *secrets.in_values(packed.parameters, "the parameter", values)]
    for path, data in packed.modules.items():
        found += secrets.in_text(data.decode("utf-8", "replace"), f"the module {path}", values)
    found += secrets.in_text(json.dumps(dict(packed.environment)), "the environment", values)
    if found:
        told = "; ".join(map(str, dict.fromkeys(found[:4]))) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
        raise InvalidInputError(
            f"The snapshot would carry a secret. {told}.",
            f"Take it out (read it from the environment, and clear the output); if it is none, tag the cell {secrets.TAG}.",
        )


def _refused(recorded: record.Recorded) -> InvalidInputError:
    told = "; ".join(recorded.reasons[:3]) + (f"; and {len(recorded.reasons) - 3} more" if len(recorded.reasons) > 3 else "")
    return InvalidInputError(
        f"A clean run may not give what is shown: {told}.",
        "Run these cells again, or all from the top (%mlp_graph shows all cells); %mlp_snapshot --weak takes it as it is, labelled.",
    )


def _tied(workspace: Workspace, done: Document, from_kernel: bool) -> tuple[list[Ref], list[Ref]]:
    """Return what the notebook used and did not make, and what it made, as exact references."""
    activities = workspace.activities
    found = [activities.get(one) for one in activities.session] if from_kernel else list(_of_outputs(workspace, done))
    finished = [activity for activity in found if activity.kind not in ("snapshot", "verify", "monitor")]
    made = list(dict.fromkeys(ref for activity in finished for ref in activity.made))
    used = list(dict.fromkeys(ref for activity in finished for ref in activity.used if ref not in made))
    return used, made


def _of_outputs(workspace: Workspace, done: Document) -> Iterator[Any]:
    """The activities that made what a saved notebook shows."""
    for cell in done.cells:
        for output in cell.outputs:
            told = output.get("data", {}).get(compare.OURS)
            try:
                maker = workspace.activities.maker(Ref.parse(str(told["ref"]))) if told and told.get("ref") else None
            except MLPError:
                continue  # a foreign object, or one without a record
            if maker is not None:
                yield maker


def _pack(recorded: record.Recorded, file: Document | None, used: Sequence[Ref], made: Sequence[Ref]) -> Stored:
    import nbformat

    done = recorded.document
    python = "\n".join(cell.python for cell in done.cells)
    folder = file.path.parent if file and file.path else Path.cwd()
    modules = {path: text.encode() for path, text in capture.local_modules(python, folder).items()}
    parameters = {name: one.default for name, one in done.parameters.items()}
    return Stored(
        name=file.name if file else "notebook",
        notebook=nbformat.writes(done.node).encode(),
        environment={**environment.describe(), "folder": str(folder)},
        modules=modules,
        pins={f"{ref.kind}:{ref.name}": ref.version for ref in used if ref.version and ref.kind in ("table", "dataset")},
        inputs=tuple(str(ref) for ref in used if ref.kind in _INPUTS),
        made=tuple(map(str, made)),
        parameters=parameters,
        read=files.contents(done.cells, parameters, folder),
        validity={
            "state": "weak" if recorded.reasons else "strong",
            "reasons": list(recorded.reasons),
            "cells": [{"state": cell.state.state, "reason": cell.state.reason} for cell in recorded.cells if cell.kept],
        },
    )


def _snapshot(workspace: Workspace, packed: Stored) -> Snapshot:
    return Snapshot(
        packed.ref,
        packed.name,
        tuple(map(Ref.parse, packed.inputs)),
        tuple(map(Ref.parse, packed.made)),
        tuple(cell.source for cell in _document(packed.notebook).cells),
        packed.validity["state"],
        tuple(packed.validity["reasons"]),
        len(packed.environment["packages"]),
        workspace,
    )


def _open(workspace: Workspace, text: str) -> Stored:
    if text.startswith("snapshot:"):
        return stored.load(workspace, Ref.parse(text))
    if "/" in text or "." in text:
        return stored.open_file(Path(text).expanduser())
    return stored.load(workspace, Ref.parse(text, kind="snapshot"))


def _all_there(workspace: Workspace, pins: Mapping[str, str]) -> None:
    """Stop before the first cell when a version that it needs is gone, and name it."""
    for name, version in pins.items():
        ref = Ref.parse(f"{name}@{version}")
        try:
            if ref.kind == "table":
                fingerprints.check(workspace, ref.name, version)
            files = workspace.lake.files(ref.name, version) if ref.kind == "table" else datasets.load(workspace, ref).files
        except (NotFoundError, StorageError) as error:
            raise StorageError(f"{ref} is gone, which this snapshot read: {error.message}", _NOTHING_RAN) from error
        except OSError as error:  # the table's own description is gone, or cannot be read
            raise StorageError(f"{ref} is gone, which this snapshot read: {error}.", _NOTHING_RAN) from error
        missing = [path for path in files if not Path(path).exists()]
        if missing:
            raise StorageError(f"{ref} is gone, which this snapshot read: {missing[0]} is missing.", _NOTHING_RAN)


@contextmanager
def _scratch(workspace: Workspace, packed: Stored) -> Iterator[tuple[Path, dict[str, str]]]:
    """A workspace that looks through to the real one; dropped at the end with everything that it started."""
    root = workspace.root / "scratch" / new_id()
    folder = root / "verification"
    folder.mkdir(parents=True, mode=0o700)
    publish_bytes(folder / "pins.json", json.dumps(dict(packed.pins)).encode())
    variables = {"MLP_WORKSPACE": str(root), "MLP_PARENT": str(workspace.root), "MLP_PINS": str(folder / "pins.json"), "MLP_VERIFY": "1"}
    try:
        yield folder, variables
    finally:
        _drop(Workspace(root, workspace))


def _drop(scratch: Workspace) -> None:
    from jupyter_mlp.serving import control

    control.stop_all(scratch)
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


def _document(data: bytes) -> Document:
    import nbformat

    return Document(nbformat.reads(data.decode("utf-8"), as_version=4))


def _published(workspace: Workspace, found: Verification) -> Verification:
    from jupyter_mlp.reports.pages import page

    key = workspace.artifacts.put(page(found.card()).encode(), ".html")
    return replace(found, report=workspace.artifacts.path(key, ".html"))


def _first_line(source: str) -> str:
    return source.strip().splitlines()[0][:60]
