"""What a client's requests may do to the names of its session: to its temporary views, and to its functions.

A session belongs to one client, so both change only by what that client sends. The user sends things too: `frame.sparkSession`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from jupyter_mlp.backends.spark_runtime import runtime_folder, touch
from jupyter_mlp.backends.spark_watching import Watcher
from jupyter_mlp.core import queries

# Statements that make and drop no temporary view, beside those that core.queries knows.
_OF_TABLES = re.compile(
    r"\s*(insert|update|delete|merge|truncate|analyze|create\s+(or\s+replace\s+)?(table|database|schema|function)|use|set|reset)\b", re.I
)
_ASKS = ("current_", "list_", "get_", "is_", "refresh_")
_QUIET_S = 600.0


class SessionNames(Watcher):
    """Watches what a client sends: which views it may have made, replaced or dropped, and whether its functions may have changed.

    It also says that the server is in use, whoever uses it, for as long as something runs there.
    """

    def __init__(self) -> None:
        self._known: tuple[object, frozenset[str]] | None = None
        self._runtime = runtime_folder()
        self._last = time.time()
        self.changed: Callable[[str | None], None] = lambda name: None

    @property
    def long_quiet(self) -> bool:
        """Whether nothing was sent for so long that the server may have ended the session."""
        return time.time() - self._last > _QUIET_S

    @property
    def last_functions(self) -> frozenset[str]:
        """The user's functions when they were last asked for."""
        return self._known[1] if self._known else frozenset()

    def functions(self, session: Any) -> frozenset[str]:
        """Return the functions that the user registered in the session, lower case."""
        state = self.state  # of its functions
        if state is None:
            return frozenset()
        if self._known is None or self._known[0] is not state:
            names = session.sql("SHOW USER FUNCTIONS").collect()
            self._known = state, frozenset(row[0].rsplit(".", 1)[-1].lower() for row in names)
        return self._known[1]

    def note(self, method: str, request: Any) -> bool:
        """Say that the server is in use and what view is touched; return whether a function may be registered or dropped."""
        self._last = time.time()
        touch(self._runtime)
        if method != "ExecutePlan":
            return False
        view = touched_view(request.plan)
        if view != "":
            self.changed(view)
        return may_change_functions(request.plan)


def touched_view(plan: Any) -> str | None:
    """Return the temporary view that a plan may make, replace or drop; "" where it does none of that, None where it may be any."""
    kind = plan.WhichOneof("op_type")
    if kind == "root":
        return _by_catalog(plan.root)
    if kind != "command":
        return None  # compressed
    command = plan.command
    what = command.WhichOneof("command_type")
    if what == "create_dataframe_view":
        return str(command.create_dataframe_view.name).lower()
    if what == "sql_command":
        return _by_statement(sql_of(command.sql_command))
    return None if what in ("extension", "pipeline_command", None) else ""


def may_change_functions(plan: Any) -> bool:
    """Whether a plan may register or drop a function."""
    kind = plan.WhichOneof("op_type")
    if kind == "root":
        return False
    if kind != "command":
        return True  # compressed
    what = plan.command.WhichOneof("command_type")
    if what == "sql_command":
        text = sql_of(plan.command.sql_command)
        found = queries.statement(text)
        return not (queries.is_query(text) or (found is not None and found.kind != "other"))
    return what in ("register_function", "register_table_function", "extension", "pipeline_command", None)


def sql_of(command: Any) -> str:
    """Return the text of Spark SQL in a command."""
    return str(command.input.sql.query if command.HasField("input") else command.sql)


def _by_catalog(root: Any) -> str | None:
    if root.WhichOneof("rel_type") != "catalog":
        return ""
    what = root.catalog.WhichOneof("cat_type")
    if what == "drop_temp_view":
        return str(root.catalog.drop_temp_view.view_name).lower()
    return "" if what is not None and (what.startswith(_ASKS) or what.endswith("_exists")) else None


def _by_statement(text: str) -> str | None:
    if queries.is_query(text) or _OF_TABLES.match(text):
        return ""
    found = queries.statement(text)
    if found is None or found.name == "identifier":  # IDENTIFIER('a' || :b) may be any
        return None
    return found.name if found.kind in ("view", "gone") else ""
