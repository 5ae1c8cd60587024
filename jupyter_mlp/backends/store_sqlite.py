"""Predictions by key in one SQLite file: nothing to install, one machine, tens of microseconds a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from jupyter_mlp.core.errors import StorageError

_AT_ONCE = 500  # keys of one question; SQLite takes 32,766 marks
_CHUNK = 10_000


class SqliteStore:
    """The online store of a workspace.

    Args:
        address: path of the file.
    """

    quick = True

    def __init__(self, address: str) -> None:
        self._path = Path(address)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(self._path, isolation_level=None, timeout=30.0, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answers (space TEXT, key TEXT, value BLOB, PRIMARY KEY (space, key)) WITHOUT ROWID"
            )
            self._path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"The online store {address} cannot be opened: {error}.", "Check the disk and the folder's rights."
            ) from error

    def publish(self, space: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace a space by these rows, all at once."""
        with self._plain_errors("did not take the predictions", "Free some space, or run it again."), self._transaction():
            self._database.execute("DELETE FROM answers WHERE space = ?", (space,))
            waiting = iter(rows)
            while chunk := list(islice(waiting, _CHUNK)):
                self._database.executemany("INSERT INTO answers VALUES (?, ?, ?)", [(space, *row) for row in chunk])

    def get(self, space: str, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of some keys, None where there is none."""
        found: dict[str, bytes] = {}
        with self._plain_errors("does not answer", "Ask again in a moment."):
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(part))
                question = f"SELECT key, value FROM answers WHERE space = ? AND key IN ({marks})"
                found |= dict(self._database.execute(question, (space, *part)))
        return [found.get(key) for key in keys]

    def drop(self, space: str) -> None:
        """Remove a space; one that is not there is removed already."""
        with self._plain_errors("did not let them go", "Check the disk."):
            self._database.execute("DELETE FROM answers WHERE space = ?", (space,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:  # a full disk may have rolled it back already
                self._database.execute("ROLLBACK")

    @contextmanager
    def _plain_errors(self, what: str, hint: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"The online store {self._path} {what}: {error}.", hint) from error
