"""The team's Postgres: one engine a process, its errors in two lines, and never a password in any text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from jupyter_mlp.core.errors import ConflictError, InvalidInputError, MissingPackageError, MLPError, StorageError

_WRITTEN = ("postgresql+psycopg", "postgresql", "postgres")  # how people write it; the first is how SQLAlchemy wants it


def normal(url: str) -> str:
    """Return the URL as SQLAlchemy wants it.

    Raises:
        InvalidInputError: it names another kind of database, or cannot be read.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _WRITTEN or not rest:
        raise InvalidInputError(
            f"The setting database names {scheme + '://' if rest else 'no URL'}; records and catalog live in SQLite or Postgres.",
            "Write postgresql://USER@HOST/DATABASE, or leave it out: then they are files of the workspace.",
        )
    return f"{_WRITTEN[0]}://{rest}"


def public(url: str) -> str:
    """Return the URL without its password and options, for people to read."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a database URL that cannot be read"
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    return f"{parts.scheme}://{user + '@' if user else ''}{host}{parts.path}"


@cache
def engine(url: str) -> Any:
    """Return this process's connections to the Postgres at `url`."""
    import sqlalchemy

    try:
        # Small: a team has many kernels, and a server few connections. One waits for its turn while the other commits.
        made = sqlalchemy.create_engine(normal(url), pool_pre_ping=True, pool_size=2, max_overflow=8, hide_parameters=True)
    except MLPError:
        raise
    except ImportError as error:
        raise MissingPackageError("The driver of Postgres is not installed.", "pip install 'jupyter_mlp[postgres]'") from error
    except (sqlalchemy.exc.ArgumentError, ValueError):  # not named as the cause: its text may hold a part of the password
        raise InvalidInputError("The setting database is no URL.", "Write postgresql://USER@HOST:PORT/DATABASE.") from None
    os.register_at_fork(after_in_child=lambda: made.dispose(close=False))  # a connection belongs to one process
    return made


def rows_if_made(url: str, table: str, sql: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return what a query gives; nothing where its table was not made yet."""
    from sqlalchemy import text

    with plain_errors(), engine(url).connect() as connection:
        if connection.execute(text("SELECT to_regclass(:name)"), {"name": table}).scalar() is None:
            return []
        found: Sequence[Any] = connection.execute(text(sql), parameters).all()
        return found


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what the server refuses in two lines."""
    import sqlalchemy

    try:
        yield
    except sqlalchemy.exc.IntegrityError as error:
        raise ConflictError(f"The record is already there: {_first_line(error)}.", "Run it again: the newest record is used.") from error
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.InternalError) as error:
        raise StorageError(
            f"The database cannot be reached: {_first_line(error)}.",
            "Check the setting `database` (mlp doctor shows it) and that the server runs.",
        ) from error
    except sqlalchemy.exc.ProgrammingError as error:
        raise StorageError(
            f"The database refused: {_first_line(error)}.", "Check that this user may create and write tables there."
        ) from error


def _first_line(error: Any) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".")
