"""Repeat: what is different between two snapshots, in the words of the field: cells, parameters, data, packages, models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_mlp import snapshot_files
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import MissingPackageError, MLPError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.notebook.compare import OURS
from jupyter_mlp.store import datasets
from jupyter_mlp.store import snapshots as stored
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace, current


@dataclass(frozen=True)
class Change:
    """One difference: of what kind, of which thing, and what it was and is; empty where it was or is not."""

    kind: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, repr=False)
class Difference(Shown):
    """What is different between two snapshots; nothing in `changes` means that they say the same."""

    before: Ref
    after: Ref
    changes: tuple[Change, ...]

    @property
    def ref(self) -> str:
        """A difference is not recorded."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the changes as JSON types."""
        changes = [dict(vars(one)) for one in self.changes]
        return {"kind": "difference", "before": str(self.before), "after": str(self.after), "changes": changes}

    def card(self) -> Card:
        """Return a row for each change."""
        title = f"{self.before.kind}:{self.before.name[:12]} -> {self.after.kind}:{self.after.name[:12]}"
        rows = [[one.kind, one.name, one.before or "-", one.after or "-"] for one in self.changes]
        if not rows:
            return Card(title, notes=["They say the same: cells, parameters, data, packages and models."])
        return Card(title, tables=[Table(["what", "which", "before", "after"], rows)])


def diff(before: str | Shown, after: str | Shown) -> Difference:
    """Return what is different between two snapshots; nothing is run.

    Args:
        before, after: `snapshot:<id>` (its first characters are enough) or the path of an exported file.

    Raises:
        NotFoundError: there is no such snapshot.

    Example:
        >>> mlp.diff("snapshot:1f3c", "snapshot:9ab2").changes
    """
    workspace = current()
    (one, _), (other, _) = (snapshot_files.opened(workspace, named(snapshot)) for snapshot in (before, after))
    changes = [
        *_cells(one, other),
        *_named("parameter", one.parameters, other.parameters),
        *_data(workspace, one.pins, other.pins),
        *_named("package", one.environment["packages"], other.environment["packages"]),
        *_named("environment", _machine(one), _machine(other)),
        *_named("module", _sizes(one), _sizes(other)),
        *_named("made", _made(one), _made(other)),
        *_named("metric", _metrics(one), _metrics(other)),
    ]
    return Difference(one.ref, other.ref, tuple(changes))


def _cells(one: Stored, other: Stored) -> Iterator[Change]:
    """Cells added, taken away and changed, matched by nbdime, which knows a cell again when it was edited or moved."""
    import nbformat

    try:
        from nbdime.diffing.notebooks import diff_notebooks
    except ImportError:
        raise MissingPackageError("nbdime is not installed.", "pip install 'jupyter_mlp[notebook]'") from None
    a, b = (nbformat.reads(each.notebook.decode(), as_version=4) for each in (one, other))
    for step in diff_notebooks(a, b):
        for change in step.get("diff", ()) if step.key == "cells" else ():
            if change.op == "addrange":
                yield from (Change("cell", f"before cell {change.key + 1}", "", _first(cell.source)) for cell in change.valuelist)
            elif change.op == "removerange":
                gone = a.cells[change.key : change.key + change.length]
                yield from (Change("cell", f"cell {change.key + place}", _first(cell.source), "") for place, cell in enumerate(gone, 1))
            elif change.op == "patch":
                yield from _cell(change, a.cells[change.key])


def _cell(change: Any, cell: Any) -> Iterator[Change]:
    import nbdime

    parts = {part.key for part in change.diff}
    if "source" in parts:
        now = nbdime.patch(cell, change.diff).source
        pairs = [(x, y) for x, y in zip(cell.source.splitlines(), now.splitlines(), strict=False) if x != y]
        was, is_ = pairs[0] if pairs else (f"{len(cell.source.splitlines())} lines", f"{len(now.splitlines())} lines")
        yield Change("cell", f"source of cell {change.key + 1}", was.strip(), is_.strip())
    if "outputs" in parts:
        yield Change("cell", f"output of cell {change.key + 1}", _first(cell.source), "shows something else")


def _data(workspace: Workspace, one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted({*one, *other}):
        was, now = one.get(name), other.get(name)
        if was == now:
            continue
        yield Change("model" if name.startswith("model:") else "data", name, _version(workspace, name, was), _version(workspace, name, now))
        if was and now:
            yield from _named(f"column of {name}", _columns(workspace, name, was), _columns(workspace, name, now))


def _version(workspace: Workspace, name: str, version: str | None) -> str:
    if not version:
        return ""
    try:
        ref = Ref.parse(f"{name}@{version}")
        rows = workspace.lake.rows(ref.name, version) if ref.kind == "table" else datasets.load(workspace, ref).rows
    except MLPError:
        return f"@{version[:8]}"  # from another machine: its data is not here
    return f"@{version[:8]}, {rows:,} rows"


def _columns(workspace: Workspace, name: str, version: str) -> dict[str, str]:
    try:
        ref = Ref.parse(f"{name}@{version}")
        schema = workspace.lake.schema(ref.name, version) if ref.kind == "table" else datasets.load(workspace, ref).schema
    except MLPError:
        return {}
    return {field.name: str(field.type) for field in schema}


def _named(kind: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield Change(kind, str(name), _text(one, name), _text(other, name))


def _machine(snapshot: Stored) -> dict[str, Any]:
    return {name: snapshot.environment.get(name) for name in ("python", "platform", "machine", "cores", "gpus")}


def _sizes(snapshot: Stored) -> dict[str, str]:
    return {path: f"{len(data):,} bytes, {hash_[:8]}" for path, data in snapshot.modules.items() for hash_ in [stored.hash_of(data)]}


def _made(snapshot: Stored) -> dict[str, str]:
    """Models, runs, endpoints that it made, by kind and place: their ids are new each time."""
    kinds: dict[str, list[str]] = {}
    for text in snapshot.made:
        kinds.setdefault(text.partition(":")[0], []).append(Ref.parse(text).short)
    return {f"{kind} {place}": ref for kind, refs in kinds.items() for place, ref in enumerate(refs, 1)}


def _metrics(snapshot: Stored) -> dict[str, Any]:
    """The metrics that its cells show, by cell and name."""
    import nbformat

    found: dict[str, Any] = {}
    for number, cell in enumerate(nbformat.reads(snapshot.notebook.decode(), as_version=4).cells, 1):
        for output in cell.get("outputs", ()):
            told = output.get("data", {}).get(OURS) or {}
            metrics = told.get("metrics") if isinstance(told, dict) else None
            if isinstance(metrics, dict):
                found |= {f"{name} (cell {number})": value for name, value in metrics.items()}
    return found


def _text(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if name in values else ""


def _first(source: str) -> str:
    return (source.strip().splitlines() or [""])[0][:60]
