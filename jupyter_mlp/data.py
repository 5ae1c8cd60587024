"""Step 1, manage data: lake tables from files and frames, datasets from Spark SQL, every one an exact version."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import datasets, modes
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import Workspace, current

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, repr=False)
class TableVersion(Shown):
    """One version of a lake table.

    Attributes:
        reused: whether the same rows were there already, so that nothing was written. `content`: identity of the rows.
    """

    reference: Ref
    rows: int
    columns: tuple[tuple[str, str], ...]
    source: str
    reused: bool = False
    content: str = ""
    sample: Table | None = field(default=None, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the version as JSON types."""
        columns = [{"name": name, "type": kind} for name, kind in self.columns]
        found = {"ref": self.ref, "kind": "table", "rows": self.rows, "columns": columns}
        return {**found, "source": self.source, "reused": self.reused, "content": self.content}

    def card(self) -> Card:
        """Return rows, columns, source and the first rows."""
        source = self.source + (", unchanged: this version holds the same rows" if self.reused else "")
        title = f"{self.reference.short}  {self.rows:,} rows x {len(self.columns)} columns"
        return Card(title, [("from", source)], [self.sample] if self.sample else [])


def query(
    sql: str,
    *,
    name: str = "result",
    params: Mapping[str, Any] | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> DatasetVersion:
    """Run one Spark SQL query on exactly pinned table versions and return the dataset version it made.

    The same query on the same versions with the same parameters is answered from the record, without Spark.

    Args:
        sql: one Spark SQL query; `:name` marks a parameter.
        name: the dataset's name.
        params: values bound to the marks, never pasted into the text.
        fresh: run it even when the answer is known.
        progress: called with (tasks done, tasks in all, bytes read) while Spark works.

    Raises:
        NotFoundError: a table is unknown; the message names the nearest.
        InvalidInputError: Spark refused the query: its sentence, with line and column.

    Example:
        >>> mlp.query("SELECT carrier, count(*) AS n FROM lake.flights GROUP BY carrier", name="carriers")
    """
    from jupyter_mlp.core import queries

    begun = time.perf_counter()
    workspace = current()
    datasets.check_name(name)
    read = queries.read(sql)
    parameters = dict(params or {})
    inputs = {(use.name, use.version): _input(workspace, use.name, use.version) for use in read.tables}
    pinned = {use: ref for use, ref in inputs.items() if ref is not None}
    why = list(read.volatile) + [f"{use[0]} is not versioned here" for use, ref in inputs.items() if ref is None]
    key = None if why else _key(workspace, read.canonical, inputs, parameters)
    if key and not fresh and modes.reuses():
        known = workspace.activities.find(key)
        if known is not None:
            return _reuse(workspace, known, name, begun)
    return _run(workspace, read, pinned, name, parameters, key, why, progress, begun)


def dataset(ref: str) -> DatasetVersion:
    """Return a dataset version that was made before; `trips` alone means the newest.

    Raises:
        NotFoundError: there is none of that name or version.
    """
    begun = time.perf_counter()
    workspace = current()
    found = datasets.load(workspace, ref, lambda: workspace.engine)
    return replace(found, reused=True, seconds=time.perf_counter() - begun)


def write_table(name: str, source: Any, *, append: bool = False) -> TableVersion:
    """Write files or a frame into the lake as a table's new version; the same rows again are the same version.

    Args:
        name: `namespace.table`; a name without a dot lives in the namespace `lake`.
        source: a path, glob or URL of Parquet, CSV or JSON files; a pandas, polars or Spark DataFrame; an Arrow table.
        append: add the rows to the newest version instead of replacing it.

    Raises:
        InvalidInputError: the source or the name cannot be used, or the columns do not fit the table.

    Example:
        >>> mlp.write_table("lake.flights", "data/flights/*.parquet")
    """
    from jupyter_mlp.store import lake, sources

    workspace = current()
    full = ".".join(lake.split(name))
    if full.startswith(lake.DATASETS + "."):
        raise InvalidInputError(f"The namespace {lake.DATASETS} belongs to dataset versions.", "Choose another, like lake.flights.")
    opened = sources.open_source(source)
    before = _version_of(workspace, full)
    content = sources.ContentHash()
    staged = workspace.lake.stage(full, content.over(opened.batches()), opened.schema)
    key = digest("table", 1, full, content.hexdigest(), before if append else None)
    known = _same_table(workspace, key, before, append)
    if known is not None:
        workspace.lake.discard(staged)
        return _table_version(workspace, workspace.activities.again(known), opened.label, reused=True)
    parameters = {"source": opened.label, "append": append}
    base = before if append else None
    used = [*opened.used, *([Ref("table", full, base)] if base else [])]
    with workspace.activities.recording("table", name=full, key=key, used=used, parameters=parameters) as draft:
        ref = Ref("table", full, workspace.lake.add(full, opened.schema, staged, append=append, base=base))
        draft.made.append(ref)
        columns = [[f.name, str(f.type)] for f in lake.storable(workspace.lake.schema(full, str(ref.version)))]
        draft.facts.update(rows=workspace.lake.rows(full, str(ref.version)), columns=columns, content=content.hexdigest())
    return _table_version(workspace, draft.activity, opened.label)


def _version_of(workspace: Workspace, full: str) -> str | None:
    """The version that a table's name means here now."""
    return workspace.activities.pins.get(f"table:{full}") or workspace.lake.current(full)


def _same_table(workspace: Workspace, key: str, before: str | None, append: bool) -> Activity | None:
    """The activity that wrote exactly this already, if its version is what the table's name means, or would mean here."""
    known = workspace.activities.find(key)
    if known is None or (append and modes.reuses()):  # appending twice adds twice
        return None
    same = any(ref.version == before for ref in known.made)
    return known if same or not modes.reuses() else None


def _table_version(workspace: Workspace, activity: Activity, source: str, reused: bool = False) -> TableVersion:
    ref = next(ref for ref in activity.made if ref.kind == "table")
    facts, version = activity.facts, str(ref.version)
    sample = datasets.preview(workspace.lake.files(ref.name, version), workspace.lake.schema(ref.name, version), facts["rows"])
    return TableVersion(
        ref, facts["rows"], tuple((name, kind) for name, kind in facts["columns"]), source, reused, facts["content"], sample
    )


def _input(workspace: Workspace, name: str, version: str | None) -> Ref | None:
    """Return the exact version that a table's name means here; None for what only Spark knows (files, views)."""
    activities = workspace.activities
    if "." not in name:
        made = activities.newest("dataset", name)
        if made is not None:
            return made
    full = name if "." in name else f"lake.{name}"
    snapshot = version or _version_of(workspace, full)
    if snapshot is not None:
        return Ref("table", full, snapshot)
    if name.split(".")[0] in ("parquet", "csv", "json", "orc", "text", "avro", "delta", "binaryfile") or _spark_knows(workspace, name):
        return None
    known = sorted({*workspace.lake.names(), *activities.names("dataset")})
    raise NotFoundError(f"No table or dataset {name} here.", nearest(full if "." in name else name, known) or _FIRST_TABLE)


_FIRST_TABLE = "The lake is empty; make a table first: %mlp_table lake.NAME FILE_OR_FRAME"


def _spark_knows(workspace: Workspace, name: str) -> bool:
    """Whether the name is a temporary view of this kernel's session, or a table of the cluster's own catalog."""
    remote = workspace.settings.spark.startswith("sc://")
    return (workspace.engine.started or remote) and bool(workspace.engine.session.catalog.tableExists(name))


def _key(workspace: Workspace, canonical: str, inputs: Mapping[tuple[str, str | None], Ref | None], parameters: Mapping[str, Any]) -> str:
    from jupyter_mlp.core.zone import local_zone

    exact = sorted((name, version or "", str(ref)) for (name, version), ref in inputs.items())
    typed = sorted((name, type(value).__name__, value) for name, value in parameters.items())
    return digest("query", 1, canonical, exact, typed, workspace.engine.overrides(), local_zone())


def _reuse(workspace: Workspace, known: Activity, name: str, begun: float) -> DatasetVersion:
    ref = next(ref for ref in known.made if ref.kind == "dataset")
    ref = Ref("dataset", name, ref.version)
    again = workspace.activities.again(known, name, [ref])
    found = datasets.of_activity(workspace, again, ref, lambda: workspace.engine)
    return replace(found, reused=True, seconds=time.perf_counter() - begun)


def _run(
    workspace: Workspace,
    read: Any,
    pinned: Mapping[tuple[str, str | None], Ref],
    name: str,
    parameters: Mapping[str, Any],
    key: str | None,
    why: list[str],
    progress: Progress | None,
    begun: float,
) -> DatasetVersion:
    from jupyter_mlp.core import column_lineage, queries

    engine = workspace.engine
    views, schemas = {}, {}
    for use, ref in pinned.items():
        view = f"mlp_{ref.name.split('.')[-1]}_{digest(str(ref))[:10]}"
        files, schema = _rows_of(workspace, ref)
        engine.view(view, files, schema)
        views[use] = view
        schemas[use[0]] = schema.names
    text, edits = queries.rewrite(read, views)
    names = {view: use[0] for use, view in views.items()}
    used = list(dict.fromkeys(pinned.values()))
    with workspace.activities.recording(
        "query", name=name, key=key, used=used, parameters={"sql": read.text, "params": parameters}
    ) as draft:

        def write(folder: Path) -> list[str]:
            try:
                notes: list[str] = engine.write(text, parameters, folder, progress)
            except InvalidInputError as refusal:
                raise _in_the_users_words(refusal, read.text, text, edits, names) from refusal
            return notes + [f"never reused: {reason}" for reason in why]

        # The same question has the same version, here and where it is verified; asked --fresh it has a new one.
        version = key if key and not (modes.reuses() and workspace.activities.find(key)) else uuid.uuid4().hex
        with column_lineage.beside(read, pinned, schemas) as lineage:
            ref = datasets.publish(workspace, draft, name, write, version)
        draft.facts["lineage"] = lineage()
    found = datasets.of_activity(workspace, draft.activity, ref, lambda: workspace.engine)
    return replace(found, seconds=time.perf_counter() - begun)


def _rows_of(workspace: Workspace, ref: Ref) -> tuple[list[str], Any]:
    if ref.kind == "dataset":
        found = datasets.load(workspace, ref)
        return found.files, found.schema
    from jupyter_mlp.store import table_versions

    assert ref.version is not None
    table_versions.protect(workspace.lake, ref.name, ref.version)
    return workspace.lake.files(ref.name, ref.version), workspace.lake.schema(ref.name, ref.version)


def _in_the_users_words(
    refusal: InvalidInputError, original: str, sent: str, edits: list[tuple[int, int, int]], names: Mapping[str, str]
) -> InvalidInputError:
    """Name tables and places as the user wrote them, not as they were sent."""
    from jupyter_mlp.core import queries

    message = refusal.message
    for view, name in names.items():
        message = message.replace(f"`{view}`", f"`{name}`").replace(view, name)
    place = getattr(refusal, "position", None)
    if place is None:
        return InvalidInputError(message, "Correct the query and run the cell again.")
    lines = sent.split("\n")
    offset = sum(len(line) + 1 for line in lines[: place[0] - 1]) + place[1] - 1
    at = max(0, min(queries.original_position(edits, offset), len(original)))
    line, column = original.count("\n", 0, at) + 1, at - (original.rfind("\n", 0, at) + 1) + 1
    shown = original.split("\n")[line - 1].strip()
    return InvalidInputError(message, f"Line {line}, column {column} of the query: {shown[:120]}")
