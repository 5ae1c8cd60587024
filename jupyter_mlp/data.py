"""Step 1, manage data: lake tables from files and frames, datasets from Spark SQL, every one an exact version."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jupyter_mlp.core import queries
from jupyter_mlp.core.cards import Card, Shown, Table, count_text
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.queries import Query, Statement, TableUse
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.core.spark_functions import VOLATILE
from jupyter_mlp.store import datasets, fingerprints, modes, moments, previews, questions, readings, turns
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.questions import Question, SessionView
from jupyter_mlp.store.storable import changes, storable
from jupyter_mlp.store.workspace import Workspace, current

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, repr=False)
class TableVersion(Shown):
    """One version of a lake table.

    Attributes:
        reused: whether the same rows were there already, so that nothing was written. `content`: identity of the rows.
        notes: what had to be changed to store them.
    """

    reference: Ref
    rows: int
    columns: tuple[tuple[str, str], ...]
    source: str
    reused: bool = False
    content: str = ""
    notes: tuple[str, ...] = ()
    sample: Table | None = field(default=None, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the version as JSON types."""
        columns = [{"name": name, "type": kind} for name, kind in self.columns]
        found = {"ref": self.ref, "kind": "table", "rows": self.rows, "columns": columns}
        return {**found, "source": self.source, "reused": self.reused, "content": self.content, "notes": list(self.notes)}

    def card(self) -> Card:
        """Return rows, columns, source and the first rows."""
        source = self.source + (", unchanged: this version holds the same rows" if self.reused else "")
        title = f"{self.reference.short}  {count_text(self.rows, 'row')} x {count_text(len(self.columns), 'column')}"
        return Card(title, [("from", source)], [self.sample] if self.sample else [], notes=self.notes)


@dataclass(frozen=True, repr=False)
class SessionChange(Shown):
    """What a statement did to this kernel's Spark session, and the exact versions it read."""

    what: str
    inputs: tuple[Ref, ...] = ()

    @property
    def ref(self) -> str:
        """The session has no versions; this names what was done."""
        return f"session:{self.what}"

    def to_dict(self) -> dict[str, Any]:
        """Return what was done, as JSON types."""
        return {"kind": "session", "what": self.what, "inputs": [str(ref) for ref in self.inputs]}

    def card(self) -> Card:
        """Return one line."""
        return Card(f"session: {self.what}", [("read", ", ".join(ref.short for ref in self.inputs))] if self.inputs else [])


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
        progress: called with (tasks done, tasks in all, bytes read) while Spark works;
            where it has a method `stages`, that is called before with (stages done, stages in all).

    Raises:
        NotFoundError: a table is unknown; the message names the nearest.
        InvalidInputError: Spark refused the query: its sentence, with line and column.

    Example:
        >>> mlp.query("SELECT carrier, count(*) AS n FROM lake.flights GROUP BY carrier", name="carriers")
    """
    begun = time.perf_counter()
    workspace = current()
    datasets.check_name(name)
    _check_text(sql)
    workspace.engine.renew()
    with workspace.database.moment():
        question = questions.ask(workspace, sql, params or {})
        key = question.key if modes.reuses() and not fresh else None
        known = workspace.activities.find(key) if key else None
    if known is not None:
        return _reuse(workspace, known, name, begun)
    with turns.turn(workspace.root, key) as waited:
        known = workspace.activities.find(key) if key and waited else None
        return _reuse(workspace, known, name, begun) if known else _run(workspace, question, name, progress, begun)


def statement(sql: str, *, params: Mapping[str, Any] | None = None) -> SessionChange:
    """Run a statement that changes this kernel's Spark session: a temporary view, a variable, SET.

    A temporary view reads exactly pinned versions, like a query; what is asked of it later knows them.

    Raises:
        InvalidInputError: it is no statement of the session, or Spark refused it.
        NotFoundError: a table is unknown.

    Example:
        >>> mlp.statement("CREATE TEMP VIEW late AS SELECT * FROM lake.flights WHERE dep_delay > 15")
    """
    workspace = current()
    _check_text(sql)
    found = queries.statement(sql)
    if found is None:
        raise InvalidInputError("This is no statement of the session.", "Queries run with mlp.query; mlp.write_table writes tables.")
    workspace.engine.renew()
    if found.kind == "view":
        return _make_view(workspace, found, params or {})
    query = readings.read(workspace.root, sql)
    pinned = questions.known_tables(workspace, query, params or {})
    text, edits, names = _pinned_text(workspace, query, pinned)
    _in_the_users_words(query.text, text, edits, names, lambda: workspace.engine.statement(text, dict(params or {})))
    if found.kind == "gone":
        workspace.engine.views.pop(found.name, None)
    if found.kind == "variable":
        volatile = os.urandom(16).hex() if set(query.volatile) - {queries.UNREADABLE} or set(query.functions) & VOLATILE else ""
        for word in query.words:  # which of them is the variable, Spark knows; a query with any of them is another question now
            exact = sorted(map(str, pinned.values()))
            workspace.engine.variables[word] = digest(workspace.engine.variables.get(word), query.canonical, exact, volatile)
        if moments.may_hold(query, params or {}):
            workspace.engine.variables.update(dict.fromkeys(queries.variables(sql), moments.VARIABLE))
    return SessionChange(sql.strip(), tuple(dict.fromkeys(pinned.values())))


def _check_text(sql: object) -> None:
    if not isinstance(sql, str):
        raise InvalidInputError(f"Spark SQL is a text; this is of type {type(sql).__name__}.", 'mlp.query("SELECT * FROM lake.NAME")')


def _make_view(workspace: Workspace, found: Statement, params: Mapping[str, Any]) -> SessionChange:
    question = questions.read(workspace, found.body, params)
    _send_view(workspace, found, question)
    return SessionChange(f"temporary view {found.name}", questions.meaning(workspace, question).inputs)


def _send_view(workspace: Workspace, found: Statement, question: Question) -> None:
    text, edits, names = _pinned_text(workspace, question.query, question.pinned)
    whole = f"{found.head} {text}"
    shift = len(found.head) + 1
    _in_the_users_words(
        found.head + " " + question.query.text,
        whole,
        [(start + shift, end + shift, length) for start, end, length in edits],
        names,
        lambda: workspace.engine.statement(whole, question.parameters),
    )
    workspace.engine.views[found.name] = SessionView(found.head, question, lambda: _send_view(workspace, found, question))


def dataset(ref: str | Shown) -> DatasetVersion:
    """Return a dataset version that was made before; `trips` alone means the newest.

    Raises:
        NotFoundError: there is none of that name or version.
    """
    begun = time.perf_counter()
    workspace = current()
    found = datasets.load(workspace, named(ref), lambda: workspace.engine)
    workspace.activities.taken.append(found.reference)
    return replace(found, reused=True, seconds=time.perf_counter() - begun)


def write_table(name: str, source: Any, *, append: bool = False, in_place: bool = False) -> TableVersion:
    """Write files or a frame into the lake as a table's new version; the same rows again are the same version.

    Others may write the same table meanwhile. What is appended comes behind whatever they wrote. What replaces takes the place of
    the version that this process last saw as the newest: read in a query, written, or found here; otherwise it is refused.

    Args:
        name: `namespace.table`; a name without a dot lives in the namespace `lake`.
        source: a path, glob, folder (`year=2013/` folders become columns) or URL of Parquet, CSV or JSON files;
            a pandas, polars or Spark DataFrame; an Arrow table.
        append: add the rows to the newest version instead of replacing it.
        in_place: leave Parquet files where they are instead of copying them; whoever reads the table after they changed is told.

    Raises:
        InvalidInputError: the source or the name cannot be used, or the columns do not fit the table.
        ConflictError: somebody wrote the table after this process last looked at it; run again, it replaces that version.

    Example:
        >>> mlp.write_table("lake.flights", "data/flights/*.parquet")
    """
    from jupyter_mlp.store import lake, races, sources

    workspace = current()
    full = ".".join(lake.split(name))
    if full.startswith(lake.DATASETS + "."):
        raise InvalidInputError(f"The namespace {lake.DATASETS} belongs to dataset versions.", "Choose another, like lake.flights.")
    opened = sources.open_source(source, in_place=in_place)
    before = _version_of(workspace, full)
    content = sources.ContentHash(opened.schema)
    staged = list(opened.lying) or workspace.lake.stage(full, content.over(opened.batches()), opened.schema)
    with workspace.lake.leased(staged):
        identity = digest([str(ref) for ref in opened.used]) if opened.lying else content.hexdigest()
        key = digest("table", 1, full, identity, before if append else None)
        known = _same_table(workspace, full, key, before, append)
        if known is not None:
            workspace.lake.discard([] if opened.lying else staged)
            workspace.seen[full] = before or ""
            return _table_version(workspace, workspace.activities.again(known), opened.label, reused=True)
        parameters = {"source": opened.label, "append": append, "in_place": in_place}
        with workspace.activities.recording("table", name=full, key=key, used=opened.used, parameters=parameters) as draft:
            made = races.commit(workspace, full, opened, staged, before, append)
            if append and made.parent:
                draft.used.append(Ref("table", full, made.parent))  # what it was really added to, whoever wrote in between
                draft.used += [ref for ref in fingerprints.carried(workspace, full, made.parent) if ref not in draft.used]
            ref = Ref("table", full, made.snapshot)
            draft.made.append(ref)
            stored = storable(made.schema)
            columns, said = [[f.name, str(f.type)] for f in stored], changes(opened.given, stored)
            draft.facts.update(rows=made.rows, columns=columns, content=identity, notes=[said] if said else [])
        workspace.seen[full] = made.snapshot
        return _table_version(workspace, draft.activity, opened.label, files=staged, schema=made.schema)


def _version_of(workspace: Workspace, full: str) -> str | None:
    """The version that a table's name means here now."""
    return workspace.activities.pins.get(f"table:{full}") or workspace.lake.current(full)


def _same_table(workspace: Workspace, full: str, key: str, before: str | None, append: bool) -> Activity | None:
    """The activity that wrote exactly this already, if its version is what the table's name means, or would here, and is all there."""
    known = workspace.activities.find(key)
    if known is None or (append and modes.reuses()):  # appending twice adds twice
        return None
    same = any(ref.version == before and workspace.lake.is_whole(full, str(before)) for ref in known.made)
    return known if same or not modes.reuses() else None


def _table_version(
    workspace: Workspace, activity: Activity, source: str, reused: bool = False, files: list[str] | None = None, schema: Any = None
) -> TableVersion:
    ref = next(ref for ref in activity.made if ref.kind == "table")
    facts, version = activity.facts, str(ref.version)
    if files is None:
        files, schema = workspace.lake.newest_files(ref.name, version), workspace.lake.schema(ref.name, version)
    sample = previews.table(previews.make(files, schema, facts["rows"]))
    columns, notes = tuple((name, kind) for name, kind in facts["columns"]), tuple(facts.get("notes", ()))
    return TableVersion(ref, facts["rows"], columns, source, reused, facts["content"], notes, sample)


def _reuse(workspace: Workspace, known: Activity, name: str, begun: float) -> DatasetVersion:
    ref = next(ref for ref in known.made if ref.kind == "dataset")
    ref = Ref("dataset", name, ref.version)
    again = workspace.activities.again(known, name, [ref])
    found = datasets.of_activity(workspace, again, ref, lambda: workspace.engine)
    return replace(found, reused=True, seconds=time.perf_counter() - begun)


def _run(workspace: Workspace, question: Question, name: str, progress: Progress | None, begun: float) -> DatasetVersion:
    from jupyter_mlp.store import commits, lineages, table_versions

    query, key = question.query, question.key
    text, edits, names = _pinned_text(workspace, query, question.pinned)
    parameters = {"sql": query.text, "params": question.parameters}
    with workspace.activities.recording("query", name=name, key=key, used=question.inputs, parameters=parameters) as draft:
        for used in question.inputs:
            table_versions.protect(workspace.lake, used)

        def write(folder: Path) -> list[str]:
            notes: list[str] = _in_the_users_words(
                query.text,
                text,
                edits,
                names,
                lambda: workspace.engine.write(text, question.parameters, folder, progress, commits.make_ready),
            )
            return notes + [f"never reused: {reason}" for reason in question.why]

        # The same question has the same version, here and where it is verified; asked --fresh it has a new one.
        version = key if key and not (modes.reuses() and workspace.activities.find(key)) else os.urandom(16).hex()
        with lineages.beside(workspace, question) as lineage:
            ref = datasets.publish(workspace, draft, name, write, version)
        draft.facts["lineage"] = lineage()
    found = datasets.of_activity(workspace, draft.activity, ref, lambda: workspace.engine)
    return replace(found, seconds=time.perf_counter() - begun)


def _pinned_text(
    workspace: Workspace, query: Query, pinned: Mapping[TableUse, Ref]
) -> tuple[str, list[tuple[int, int, int]], dict[str, str]]:
    """Return the text that reads exactly the pinned versions, its edits, and the user's name of each view in it."""
    views: dict[TableUse, str] = {}
    for use, ref in pinned.items():
        views[use] = f"mlp_{ref.name.split('.')[-1]}_{digest(str(ref))[:10]}"
        workspace.engine.view(views[use], lambda ref=ref: _rows_of(workspace, ref))
    text, edits = queries.rewrite(query, views)
    return text, edits, {view: use.name for use, view in views.items()}


def _rows_of(workspace: Workspace, ref: Ref) -> tuple[list[str], Any]:
    if ref.kind == "dataset":
        found = datasets.load(workspace, ref)
        return found.files, found.schema
    assert ref.version is not None
    fingerprints.check(workspace, ref.name, ref.version)
    return workspace.lake.files(ref.name, ref.version), workspace.lake.schema(ref.name, ref.version)


def _in_the_users_words(
    original: str, sent: str, edits: list[tuple[int, int, int]], names: Mapping[str, str], call: Callable[[], Any]
) -> Any:
    """Return what the call gives; a refusal names tables and places as the user wrote them, not as they were sent."""
    try:
        return call()
    except InvalidInputError as refusal:
        message = refusal.message
        for view, name in names.items():
            message = message.replace(f"`{view}`", f"`{name}`").replace(view, name)
        place = None
        if refusal.position is not None:
            at = _original_offset(original, sent, edits, refusal.position)
            place = original.count("\n", 0, at) + 1, at - (original.rfind("\n", 0, at) + 1) + 1
        hint = queries.where_to_look(original, place)
        raise InvalidInputError(message, hint, condition=refusal.condition, position=place) from refusal


def _original_offset(original: str, sent: str, edits: list[tuple[int, int, int]], place: tuple[int, int]) -> int:
    lines = sent.split("\n")
    offset = sum(len(line) + 1 for line in lines[: place[0] - 1]) + place[1] - 1
    return max(0, min(queries.original_position(edits, offset), len(original) - 1))
