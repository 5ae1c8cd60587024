"""What a front end shows of the name under the cursor (Shift-TAB, Contextual Help, `?`): tables and datasets, beside what Python knows."""

from __future__ import annotations

from typing import Any

from jupyter_mlp.core.errors import MLPError


def register(shell: Any) -> None:
    """Let the shell tell of tables and datasets where it knows no Python object of the name; registering twice changes nothing."""
    known_to_python = shell.object_inspect_mime
    if getattr(known_to_python, "is_mlp", False):
        return

    def inspect(oname: str, *given: Any, **named: Any) -> Any:
        try:
            return known_to_python(oname, *given, **named)
        except KeyError:
            told = _told(oname)
            if told is None:
                raise
            return told

    inspect.is_mlp = True  # type: ignore[attr-defined]
    shell.object_inspect_mime = inspect


def _told(name: str) -> dict[str, str] | None:
    from jupyter_mlp.frontends import sql_help  # the first look pays for it, not every start
    from jupyter_mlp.store.workspace import current

    try:
        return sql_help.told(current(), name)
    except MLPError:
        return None
