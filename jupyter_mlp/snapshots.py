"""Repeat: a notebook, its data versions and its environment under one id."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jupyter_mlp import snapshot_files
from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.core.errors import InvalidInputError, MLPError, NotFoundError, StorageError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import api_calls, capture, causes, compare, document, files, graph, record, runs, secrets
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.snapshot_files import Export
from jupyter_mlp.store import aliases, environment, registry
from jupyter_mlp.store import snapshots as stored
from jupyter_mlp.store.gauges import Progress
from jupyter_mlp.store.snapshots import Stored
from jupyter_mlp.store.workspace import Workspace, current

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_INPUTS = ("table", "dataset", "model", "file")


@dataclass(frozen=True, repr=False)
class Snapshot(Shown):
    """A notebook that can be run again: what it was, what it read, what it showed.

    Attributes:
        inputs: exact versions of everything it read and did not make itself. `made`: what it made.
        cells: the sources of its code cells. `seeds`: what in them seeds generators of random numbers.
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
    seeds: tuple[str, ...]
    workspace: Workspace

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def export(self, path: str | Path, *, with_data: bool = False, progress: Progress | None = None) -> Export:
        """Write it as one file that `mlp verify FILE` reads elsewhere.

        Args:
            with_data: put the tables, datasets, models and files that the notebook used inside, so that it is verified from the file alone.
            progress: called with {"text", "share"} while data is read and written.

        Raises:
            StorageError: some of the data is gone, or the disk is full. InvalidInputError: it is in too many files.

        Example:
            >>> mlp.snapshot().export("delays.mlp", with_data=True)
        """
        return snapshot_files.export(self.workspace, self.reference, Path(path).expanduser().absolute(), with_data, progress)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the outputs, as JSON types."""
        return {
            "ref": self.ref,
            "kind": "snapshot",
            "name": self.name,
            "inputs": [str(ref) for ref in self.inputs],
            "made": [str(ref) for ref in self.made],
            "cells": list(self.cells),
            "seeds": list(self.seeds),
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
            *([("seeds", _few(self.seeds))] if self.seeds else []),
            ("validity", self.validity),
        ]
        notes = [*(f"weak: {reason}" for reason in self.reasons), f"Check it: mlp verify {self.reference.kind}:{self.reference.name[:12]}"]
        return Card(f"{self.reference.kind}:{self.reference.name}", facts, notes=notes)


def snapshot(notebook: str | Path | None = None, *, weak: bool = False) -> Snapshot:
    """Tie a notebook, the exact data it read and its environment to one id, and return it.

    Args:
        notebook: a notebook file with its outputs; left out inside a kernel: the cells that ran in it so far;
            `snapshot:<id>`: one taken before, as it was.
        weak: take it even where a clean run would not give what is shown; it is labelled so, and the cells are named.

    Raises:
        InvalidInputError: there is no cell to tie, a clean run would not give what some of them show, or there is a secret in them.

    Example:
        >>> mlp.snapshot().export("delays.mlp")
    """
    workspace = current()
    if isinstance(notebook, str) and notebook.startswith("snapshot:"):
        return _snapshot(workspace, stored.load(workspace, Ref.parse(notebook)))
    path = document.running_path()
    file = document.read(notebook) if notebook is not None else document.read(path) if path else None
    recorded = record.of_file(file) if notebook is not None and file else record.of_kernel(file)
    if not recorded.document.cells:
        raise InvalidInputError("No cell has run yet.", "Run the notebook first, or name a file: %mlp_snapshot NOTEBOOK.ipynb")
    if recorded.reasons and not weak:
        raise _refused(recorded)
    used, made = _tied(workspace, recorded.document, file, from_kernel=notebook is None)
    packed = _pack(workspace, recorded, file, used, made)
    _no_secrets(workspace, recorded.document, packed)
    with workspace.activities.recording("snapshot", name=packed.name, used=[*used, *made]) as draft:
        draft.facts["manifest"] = stored.save(workspace, packed)
        draft.made.append(packed.ref)
    return _snapshot(workspace, packed)


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


def _tied(workspace: Workspace, done: Document, file: Document | None, from_kernel: bool) -> tuple[list[Ref], list[Ref]]:
    """Return what the notebook used and did not make, and what it made, as exact references."""
    activities = workspace.activities
    taken = list(activities.taken if from_kernel or file is None else _named(workspace, done, file))
    found = [activities.get(one) for one in activities.session] if from_kernel else list(_of_outputs(workspace, done))
    if not from_kernel and not _trains(done):  # then the models that it shows are of others
        taken += [ref for activity in found if activity.kind == "train" for ref in activity.made if ref.kind == "model"]
        found = [activity for activity in found if activity.kind != "train"]
    finished = [activity for activity in found if activity.kind not in ("snapshot", "verify", "monitor")]
    made = list(dict.fromkeys(ref for activity in finished for ref in activity.made))
    used = [ref for activity in finished for ref in activity.used]
    return list(dict.fromkeys(ref for ref in [*used, *taken] if ref not in made)), made


def _named(workspace: Workspace, done: Document, file: Document) -> Iterator[Ref]:
    """What a saved notebook takes by name: what a dataset's name meant in the run that saved it, else what it means now."""
    cut = runs.cut_of(workspace, file.path)
    pythons = [cell.python for cell in done.cells]
    by_magics = [name for python in pythons for name in graph.platform_of(python)[0] if name.startswith(("dataset:", "model:", "run:"))]
    by_calls = [text for uses in api_calls.of_cells(pythons) for text in uses.texts]
    alone = not _trains(done)  # else a model's bare name may mean one that the notebook made
    for text in dict.fromkeys([*by_magics, *by_calls]):
        with suppress(NotFoundError, InvalidInputError):  # no dataset's name, or of one that only the notebook makes
            ref = Ref.parse(text, kind="dataset")
            yield workspace.activities.resolve(replace(ref, version=ref.version or cut.get(f"{ref.kind}:{ref.name}")))
        name = text.removeprefix("model:") if alone else text
        if (alone and _NAME.fullmatch(name)) or text.startswith(("model:", "run:")):
            with suppress(NotFoundError, InvalidInputError, StorageError):
                yield Ref("model", registry.load(workspace, name).uuid)


def _trains(done: Document) -> bool:
    """Whether any cell makes models."""
    pythons = [cell.python for cell in done.cells]
    by_magics = any(name == "mlp_train" or name == "mlp_retrain" for python in pythons for name, _ in graph.magics_of(python))
    return by_magics or any(call.rpartition(".")[2] in ("train", "retrain") for uses in api_calls.of_cells(pythons) for call in uses.calls)


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


def _pack(workspace: Workspace, recorded: record.Recorded, file: Document | None, used: Sequence[Ref], made: Sequence[Ref]) -> Stored:
    import nbformat

    done = recorded.document
    python = "\n".join(cell.python for cell in done.cells)
    folder = file.path.parent if file and file.path else Path.cwd()
    modules = {path: text.encode() for path, text in capture.local_modules(python, folder).items()}
    parameters = {name: one.default for name, one in done.parameters.items()}
    return Stored(
        name=file.name if file else "notebook",
        notebook=nbformat.writes(done.node).encode(),
        environment={**environment.exact(), "folder": str(folder)},
        modules=modules,
        pins=_pins(workspace, used),
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


def _pins(workspace: Workspace, used: Sequence[Ref]) -> dict[str, str]:
    """What names mean: of several versions of a table or dataset the newest, the others were read `VERSION AS OF`; aliases of models."""
    found: dict[str, tuple[float, str]] = {}
    for ref in used:
        if ref.version and ref.kind in ("table", "dataset"):
            name = f"{ref.kind}:{ref.name}"
            found[name] = max(found.get(name, (0.0, "")), (_made_at(workspace, ref), ref.version))
    models = {ref.name for ref in used if ref.kind == "model"}
    pointing = {f"model:{name}": uuid for name, uuid in aliases.all_of(workspace).items() if uuid in models}
    return {name: version for name, (_, version) in found.items()} | pointing


def _made_at(workspace: Workspace, ref: Ref) -> float:
    if ref.kind == "table" and ref.version:
        with suppress(NotFoundError):  # it was forgotten meanwhile
            return workspace.lake.made_at_ms(ref.name, ref.version) / 1000
    maker = workspace.activities.maker(ref)
    return maker.started_at if maker else 0.0


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(text if len(text) < 50 else text[:47] + "..." for text in texts[:3]) + more


def _snapshot(workspace: Workspace, packed: Stored) -> Snapshot:
    cells = document.of_bytes(packed.notebook).cells
    return Snapshot(
        packed.ref,
        packed.name,
        tuple(map(Ref.parse, packed.inputs)),
        tuple(map(Ref.parse, packed.made)),
        tuple(cell.source for cell in cells),
        packed.validity["state"],
        tuple(packed.validity["reasons"]),
        len(packed.environment["packages"]),
        tuple(causes.seeds(cells)),
        workspace,
    )
