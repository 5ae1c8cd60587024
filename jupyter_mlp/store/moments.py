"""Times in a question: what `VERSION AS OF` and `TIMESTAMP AS OF` mean now, and values like 'today', which mean another day each day."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from jupyter_mlp.core import queries
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.queries import Query, TableUse
from jupyter_mlp.core.spark_functions import BARE
from jupyter_mlp.store.workspace import Workspace

VARIABLE = "a moment"  # instead of the digest of a session variable's value
_TIME = "Write TIMESTAMP AS OF '2026-11-25 18:00:00', or a parameter with such a value."
_VERSION = "Write VERSION AS OF and a snapshot's number, a tag in quotes, or a parameter with such a value."


def reasons(query: Query, parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the parameters' values make the answer another one each time."""
    for name, value in parameters.items():
        said = next((text for text in _texts(value) if queries.is_moment(text)), None)
        if said is not None:
            yield f"the parameter {name} is '{said}', which may be {queries.ANOTHER_MOMENT}"
        elif "identifier" in query.functions and isinstance(value, str) and value.replace("`", "").strip().lower() in BARE:
            yield f"the parameter {name} may name Spark's function {value}()"
    for pieces in query.texts:
        known = [piece[1:] if piece[0] == "'" else parameters.get(piece[1:]) for piece in pieces]
        for said in queries.joined([value if isinstance(value, str) else None for value in known]):
            if queries.is_moment(said):
                yield f"'{said}' may be {queries.ANOTHER_MOMENT}"


def of_variables(variables: Mapping[str, str], query: Query) -> Iterator[str]:
    """Yield which session variables of a query hold a word like 'today'."""
    for name in sorted(variables):
        if variables[name] == VARIABLE and name in query.words:
            yield f"the variable {name} may be {queries.ANOTHER_MOMENT}"


def may_hold(query: Query, parameters: Mapping[str, Any]) -> bool:
    """Whether a statement may give a session variable a word like 'today'."""
    return any(why.endswith(queries.ANOTHER_MOMENT) for why in (*query.volatile, *reasons(query, parameters)))


def settled(workspace: Workspace, use: TableUse, parameters: Mapping[str, Any]) -> TableUse:
    """Return the use with the version or the time that its parameter or expression means now.

    Raises:
        InvalidInputError: it means none.
    """
    if use.version_of:
        return use._replace(version=_version(use.version_of, parameters))
    if use.timestamp_of:
        return use._replace(timestamp=_time(workspace, use.timestamp_of, parameters))
    return use


def _version(said: str, parameters: Mapping[str, Any]) -> str:
    if not _is_parameter(said):
        raise InvalidInputError(f"VERSION AS OF takes no expression like {_line(said)}.", _VERSION)
    value = _value(said, parameters)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInputError(f"VERSION AS OF {said} needs a number or a tag; the parameter is {value!r}.", _VERSION)
    return str(value)


def _time(workspace: Workspace, said: str, parameters: Mapping[str, Any]) -> str:
    if not _is_parameter(said):
        return _worked_out(workspace, said, parameters)
    value = _value(said, parameters)
    if not isinstance(value, str | datetime.date):
        raise InvalidInputError(f"TIMESTAMP AS OF {said} needs a time; the parameter is {value!r}.", _TIME)
    return value if isinstance(value, str) else value.isoformat()


def _worked_out(workspace: Workspace, said: str, parameters: Mapping[str, Any]) -> str:
    """Let Spark work out a constant expression; how it rounds, and what `current_date()` is, only Spark knows."""
    import pyarrow.parquet as pq

    folder = workspace.root / "cache" / f"moment-{os.urandom(8).hex()}"
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        workspace.engine.write(f"SELECT unix_micros(CAST({said} AS TIMESTAMP)) AS at", parameters, folder)
        found = [value for path in folder.glob("*.parquet") for value in pq.read_table(path)["at"].to_pylist()]
    except InvalidInputError as refusal:
        raise InvalidInputError(f"TIMESTAMP AS OF {_line(said)} is no time: {refusal.message}", _TIME) from refusal
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not found or found[0] is None:
        raise InvalidInputError(f"TIMESTAMP AS OF {_line(said)} is no time: it is NULL.", _TIME)
    try:
        return (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=found[0])).isoformat()
    except OverflowError:  # Spark's time goes on to the year 294247
        raise InvalidInputError(f"TIMESTAMP AS OF {_line(said)} is no time of the calendar.", _TIME) from None


def _line(said: str) -> str:
    return " ".join(said.split())


def _is_parameter(said: str) -> bool:
    return said.startswith(":") and said[1:].strip().isidentifier()


def _value(said: str, parameters: Mapping[str, Any]) -> Any:
    name = said[1:].strip()
    if name not in parameters:
        raise InvalidInputError(f"The parameter :{name} has no value.", f"Give it one: -p {name}=VALUE, or params={{'{name}': VALUE}}.")
    return parameters[name]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a parameter's value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for one in (*value.keys(), *value.values()) for text in _texts(one))
    elif isinstance(value, list | tuple):
        yield from (text for one in value for text in _texts(one))
