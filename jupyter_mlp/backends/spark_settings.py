"""A session's settings, asked of the server again only after a request that may have changed them.

A session belongs to one client, so its settings change only by what that client sends. Reading all of them takes half the time
of a known answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jupyter_mlp.backends.spark_names import sql_of
from jupyter_mlp.backends.spark_watching import Watcher

# Statements that cannot change a setting, by their first word. SET, RESET, scripts and EXECUTE IMMEDIATE are not among them.
_READS = re.compile(r"[\s(]*(select|with|from|values|table|show|describe|desc|explain)\b", re.I)
_HARMLESS = {"AnalyzePlan", "Interrupt", "ReleaseExecute", "FetchErrorDetails", "ArtifactStatus", "ReleaseSession", "GetStatus"}


class SessionSettings(Watcher):
    """Watches what a client sends, and keeps the settings as long as none of it can have changed them."""

    def __init__(self) -> None:
        self._known: tuple[object, Mapping[str, str]] | None = None

    def read(self, session: Any) -> Mapping[str, str]:
        """Return the settings of Spark SQL in the session whose requests are watched."""
        state = self.state
        if self._known is None or self._known[0] is not state:
            found = {name: value for name, value in session.conf.getAll.items() if name.startswith("spark.sql.")}
            self._known = state, found
        return self._known[1]

    @property
    def last(self) -> Mapping[str, str]:
        """The settings when they were last asked for."""
        return self._known[1] if self._known else {}

    def note(self, method: str, request: Any) -> bool:
        """Return whether a request may change a setting."""
        if method == "Config":
            return request.operation.WhichOneof("op_type") in ("set", "unset", None)
        if method == "ExecutePlan":
            plan = request.plan
            if plan.WhichOneof("op_type") == "root":
                return False
            command = plan.command
            return command.WhichOneof("command_type") != "sql_command" or not _READS.match(sql_of(command.sql_command))
        return method not in _HARMLESS
