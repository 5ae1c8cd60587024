"""What SQLite refuses, in two lines: the same for the records and for the lake's catalog."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_mlp.core.errors import ConflictError, MLPError, StorageError

BUSY_S = 30.0  # how long SQLite waits for another process before it gives up


@contextmanager
def plain_errors(what: str, path: Path) -> Iterator[None]:
    """Say what SQLite refuses of the file `path`, which is `what`."""
    try:
        yield
    except sqlite3.Error as error:
        raise plain(error, what, path) from error


def plain(error: BaseException | None, what: str, path: Path) -> MLPError:
    """Return an error of SQLite in the user's terms: which file, what is the matter, what to do."""
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        return ConflictError(f"The record is already there: {text}.", "Run it again: the newest record is used.")
    if "locked" in text:
        return StorageError(
            f"{what} {path} was busy for {BUSY_S:.0f} s: another process holds it.",
            "Run it again when that one is done; a team's workspace belongs in Postgres (setting database).",
        )
    if "readonly" in text or "unable to open" in text:
        return StorageError(
            f"{what} {path} cannot be written: {text}.",
            "Name a writable folder in the environment variable MLP_WORKSPACE, or change the permissions.",
        )
    if "full" in text:
        return StorageError(
            f"The disk is full: writing to {what[0].lower()}{what[1:]} {path} failed.",
            "Free some space and run it again; nothing was registered.",
        )
    if "not a database" in text or "malformed" in text:
        return StorageError(
            f"{what} {path} is damaged: {text}.",
            "Put a good copy of this file back, or name another folder in the environment variable MLP_WORKSPACE.",
        )
    return StorageError(f"{what} {path} failed: {text}.", "mlp doctor checks the workspace.")
