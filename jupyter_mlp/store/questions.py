"""A question: one query with its parameters, the exact versions it reads, and the key under which its answer is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_mlp.core import queries
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.queries import Query, TableUse
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.zone import local_zone
from jupyter_mlp.store import fingerprints, foreign, moments, readings
from jupyter_mlp.store.lake import is_name
from jupyter_mlp.store.workspace import Workspace

_FIRST_TABLE = "The lake is empty; make a table first: %mlp_table lake.NAME FILE_OR_FRAME"
_FORMATS = ("parquet", "csv", "json", "orc", "text", "avro", "delta", "binaryfile", "xml")
NO_SUCH_TABLE = "TABLE_OR_VIEW_NOT_FOUND"


class Question(NamedTuple):
    """What was asked.

    Attributes:
        pinned: place in the text -> the exact version read there.
        views: names of the session's own views that it reads.
        exact: what every other name means.
        through: exact versions read otherwise: through views, or where another catalog keeps them.
        why: why the answer is never reused; empty when it may be.
        key: 128 bits of everything that can change the answer; None when it is never reused.
    """

    query: Query
    parameters: Mapping[str, Any]
    pinned: Mapping[TableUse, Ref]
    views: tuple[str, ...] = ()
    exact: tuple[tuple[str, str], ...] = ()
    through: tuple[Ref, ...] = ()
    why: tuple[str, ...] = ()
    key: str | None = None

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """Exact references of everything it reads, in the order of the text."""
        return tuple(dict.fromkeys((*self.pinned.values(), *self.through)))


class SessionView(NamedTuple):
    """A temporary view that a cell made: the text before its query, and what its query asked when it was made.

    Spark looks up views and variables in it each time it is read; so does whoever asks for its meaning. `make` makes it again.
    """

    head: str
    question: Question
    make: Callable[[], None]


def ask(workspace: Workspace, text: str, parameters: Mapping[str, Any]) -> Question:
    """Return the question that `text` asks here and now.

    Raises:
        InvalidInputError: it is no single query.
        NotFoundError: a table is unknown; the message names the nearest.
    """
    return meaning(workspace, read(workspace, text, parameters))


def read(workspace: Workspace, text: str, parameters: Mapping[str, Any]) -> Question:
    """Return what `text` asks by itself: which exact versions, which views of the session, but not yet what those mean.

    Raises:
        InvalidInputError: it is no single query.
        NotFoundError: a table is unknown; the message names the nearest.
    """
    if queries.first_word(text) and not queries.is_query(text):
        raise _no_query(text)
    query = readings.read(workspace.root, text)
    values = {name: _plain(value) for name, value in parameters.items()}
    pinned: dict[TableUse, Ref] = {}
    views: list[str] = []
    through: list[Ref] = []
    exact: list[tuple[str, str]] = []
    why = [*query.volatile, *moments.reasons(query, values)]
    for use in _named(query, values):
        if workspace.engine.holds_view(use.name):
            views.append(use.name)
            continue
        ref = _input(workspace, use, query, values)
        if ref is not None:
            pinned[use] = ref
        elif use.certain:
            found = foreign.look(workspace, use.name)
            through += found.refs
            why.append(found.note)
        exact.append((use.name, str(ref)))
    why += _functions_without_parentheses(workspace, query, pinned)
    return Question(query, values, pinned, tuple(views), tuple(sorted(exact)), tuple(through), tuple(why))


def meaning(workspace: Workspace, asked: Question, within: tuple[str, ...] = ()) -> Question:
    """Return the question with its key, its reasons and what it reads through views, as the session stands now.

    Args:
        within: the views it stands in.
    """
    why, through, exact = list(asked.why), list(asked.through), list(asked.exact)
    for name in asked.views:
        view: SessionView | None = workspace.engine.views.get(name)
        if view is None or name in within:
            why.append(f"what the view {name} means is not known any more: run the cell that makes it again")
            continue
        inner = meaning(workspace, view.question, (*within, name))
        why += inner.why
        through += inner.inputs
        exact.append((name, digest("view", " ".join(view.head.split()), inner.key)))
    why += _session_reasons(workspace, asked.query)
    why += moments.of_variables(workspace.engine.variables, asked.query)
    key = None if why else _key(workspace, asked.query, sorted(exact), asked.parameters)
    return asked._replace(through=tuple(through), why=tuple(dict.fromkeys(why)), key=key)


def _no_query(text: str) -> InvalidInputError:
    word = queries.first_word(text).rstrip(";").upper()
    if queries.statement(text) is not None:
        return InvalidInputError(
            f"{word} changes the session and gives no rows.", "Run it with %%mlp_data alone in a cell, or mlp.statement(sql)."
        )
    if word == "EXECUTE":
        return InvalidInputError(
            "EXECUTE IMMEDIATE makes its text while it runs, so what it reads cannot be pinned.",
            "Write that query itself; names go in as IDENTIFIER(:table), values as :name.",
        )
    if word == "BEGIN":
        return InvalidInputError(
            "BEGIN ... END is a script of several statements.", "Put each statement in a cell of its own, without BEGIN and END."
        )
    return InvalidInputError(
        f"{word} is no query.",
        "Write one query that gives rows (SELECT, WITH, FROM, VALUES, TABLE); tables are written with %mlp_table.",
    )


def known_tables(workspace: Workspace, query: Query, parameters: Mapping[str, Any]) -> dict[TableUse, Ref]:
    """Return the exact versions of those tables in a statement that are ours; the others are Spark's to find."""
    found = {}
    for use in query.tables:
        ref = _input(workspace, use._replace(certain=False), query, parameters) if use.parameter is None else None
        if ref is not None:
            found[use] = ref
    return found


def _named(query: Query, parameters: Mapping[str, Any]) -> Iterator[TableUse]:
    """The tables with their names, those that a parameter names too."""
    for use in query.tables:
        if use.parameter is None:
            yield use
        elif isinstance(parameters.get(use.parameter), str):
            yield use._replace(name=parameters[use.parameter].replace("`", "").lower())


def _input(workspace: Workspace, use: TableUse, query: Query, parameters: Mapping[str, Any]) -> Ref | None:
    """Return the exact version that a table's name means here; None for what only Spark knows (files, views)."""
    activities, name = workspace.activities, use.name
    if "." not in name:
        made = activities.newest("dataset", name)
        if made is not None:
            use = moments.settled(workspace, use, parameters)
            if use.timestamp is not None:
                raise InvalidInputError(
                    f"TIMESTAMP AS OF is for tables of the lake; {name} is a dataset.",
                    f"Name its version: {name} VERSION AS OF '{made.version}'",
                )
            return activities.resolve(Ref("dataset", name, use.version)) if use.version else made
    full = name if "." in name else f"lake.{name}"
    if (use.version_of or use.timestamp_of) and is_name(full) and workspace.lake.current(full) is not None:
        use = moments.settled(workspace, use, parameters)
    snapshot = _version(workspace, full, use) if is_name(full) else None
    if snapshot is not None:
        if use.version is None and use.timestamp is None:
            workspace.seen[full] = snapshot
        fingerprints.check(workspace, full, snapshot)
        return Ref("table", full, snapshot)
    if not use.certain or name.split(".")[0] in _FORMATS or _spark_knows(workspace, name):
        return None
    _let_spark_speak(workspace, query, parameters)
    known = sorted({*workspace.lake.names(), *activities.names("dataset")})
    raise NotFoundError(
        f"No table or dataset {name} here.", nearest(full if "." in name else name, known) or _FIRST_TABLE, condition=NO_SUCH_TABLE
    )


def _version(workspace: Workspace, full: str, use: TableUse) -> str | None:
    """The user's own version wins over the pin, and the pin over the newest."""
    if use.version is not None or use.timestamp is not None:
        if workspace.lake.current(full) is None:
            return None
        return workspace.lake.version(full, use.version, use.timestamp)
    return workspace.activities.pins.get(f"table:{full}") or workspace.lake.current(full)


def _spark_knows(workspace: Workspace, name: str) -> bool:
    """Whether the name is a temporary view of this kernel's session, or a table of the cluster's own catalog."""
    remote = workspace.settings.spark.startswith("sc://")
    if not (workspace.engine.started or remote):
        return False
    return bool(workspace.engine.knows(name))


def _let_spark_speak(workspace: Workspace, query: Query, parameters: Mapping[str, Any]) -> None:
    """Raise what Spark finds wrong before it misses a table, such as a syntax error; a server that does not run is not started for it."""
    if not workspace.engine.started:
        return
    try:
        workspace.engine.analyse(query.text, parameters)
    except InvalidInputError as refusal:
        if refusal.condition != NO_SUCH_TABLE:
            hint = queries.where_to_look(query.text, refusal.position)
            raise InvalidInputError(refusal.message, hint, condition=refusal.condition, position=refusal.position) from refusal


def _functions_without_parentheses(workspace: Workspace, query: Query, pinned: Mapping[TableUse, Ref]) -> Iterator[str]:
    """Names like `user` and `current_date`: columns where a table has them, functions of Spark's elsewhere."""
    from jupyter_mlp.store import lineages

    for name, places in query.bare:
        refs = [ref for use, ref in pinned.items() if use.start in places]
        if queries.CERTAIN in places or any(name == column.lower() for ref in refs for column in lineages.columns_of(workspace, ref)):
            continue
        yield f"{name} is Spark's function {name}() unless a table has such a column, and may give another answer each time"


def _session_reasons(workspace: Workspace, query: Query) -> list[str]:
    """Functions that the user registered in this kernel have no version, whatever their names."""
    own = workspace.engine.user_functions()
    return [f"{name}() is your own function, so its code has no version" for name in query.functions if name in own]


def _key(workspace: Workspace, query: Query, exact: list[tuple[str, str]], parameters: Mapping[str, Any]) -> str:
    typed = sorted((name, _kind(value), value) for name, value in parameters.items())
    engine = workspace.engine
    variables = [(name, engine.variables[name]) for name in sorted(engine.variables) if not name or name in query.words]
    where = workspace.settings.spark if workspace.settings.spark.startswith("sc://") else ""
    return digest("query", 2, query.canonical, exact, typed, engine.overrides(), variables, local_zone(), where, _spark_version())


@lru_cache
def _spark_version() -> str:
    """Return the version of Spark's package; "" without one. Its metadata say the same, and take ten times as long to read."""
    found = find_spec("pyspark")
    if found is None or found.origin is None:
        return ""
    said = re.search(r"__version__[^=]*= *['\"]([^'\"]+)", Path(found.origin).with_name("version.py").read_text(encoding="utf-8"))
    return said[1] if said else found.origin


def _plain(value: Any) -> Any:
    """A numpy scalar as the Python value it holds: Spark binds that, and both are one parameter."""
    if hasattr(value, "item") and callable(value.item) and not getattr(value, "shape", ()):
        return value.item()
    return value


def _kind(value: Any) -> str:
    """The type of a parameter, with the types inside of it: [1] and [1.0] are two."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{','.join(map(_kind, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_kind(v)}" for k, v in sorted(value.items(), key=lambda item: str(item[0]))) + "}"
    return type(value).__name__
