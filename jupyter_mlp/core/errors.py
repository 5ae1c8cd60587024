"""Everything a user can do wrong or meet, as exceptions of two lines: what is wrong, what to type next.

MLPError
├── NotFoundError        (LookupError)   no table, dataset, model, run ... of that name
├── InvalidInputError    (ValueError)    an option, a query, a column or a value that cannot work
├── ConflictError        (RuntimeError)  a name or port is taken, or another writer was faster
├── StorageError         (OSError)       the workspace cannot be read or written
├── JobError             (RuntimeError)  a job failed, was cancelled or cannot be reached
│   ├── DetachedError                    waiting was interrupted; the job itself goes on
│   ├── UnreachableError                 the cluster does not answer now; what it does is not known
│   └── Again                            an attempt lost something that the next one finds again
└── MissingPackageError  (ImportError)   an extra is not installed
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable


class MLPError(Exception):
    """Root of all errors of this package: `message` says what is wrong, `hint` what to type next.

    Attributes:
        condition: Spark's error class, such as UNRESOLVED_COLUMN.WITH_SUGGESTION, where Spark has one for it.
        position: (line, column) in the query, both counted from 1, where it is known.
    """

    def __init__(self, message: str, hint: str = "", *, condition: str = "", position: tuple[int, int] | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        self.condition = condition
        self.position = position

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this instead of printing a stack: a user's mistake needs two lines, not forty.
        return [line for line in (self.message, self.hint) if line]


class NotFoundError(MLPError, LookupError):
    """Nothing of that name is known here."""


class InvalidInputError(MLPError, ValueError):
    """The request cannot work as it is written."""


class ConflictError(MLPError, RuntimeError):
    """The name or port is taken, or another writer was faster."""


class StorageError(MLPError, OSError):
    """The workspace cannot be read or written."""


class JobError(MLPError, RuntimeError):
    """A job failed, was cancelled or cannot be reached."""


class DetachedError(JobError):
    """Waiting for a job was interrupted; the job itself goes on."""


class UnreachableError(JobError):
    """A cluster does not answer now; its jobs may well go on."""


class Again(JobError):
    """What ended an attempt and need not end the next: something was lost that another attempt finds again."""


class MissingPackageError(MLPError, ImportError):
    """A package of an extra is not installed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a phrase naming the known name closest to `name`, or listing a few, or empty."""
    import difflib

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]}?"
    if known:
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        return f"Known: {shown}."
    return ""


def storage_error(error: OSError, doing: str) -> StorageError:
    """Say a failed write in the user's terms: which place, what is the matter, what to do."""
    place = str(error.filename or "the workspace")
    if error.errno == errno.ENOSPC:
        return StorageError(
            f"The disk is full: {doing} at {place} failed.",
            f"Free some space and run it again; nothing was registered. {_free_space(place)}".rstrip(),
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageError(
            f"{place} cannot be written: {doing} failed ({error.strerror}).",
            "Name a writable folder in the environment variable MLP_WORKSPACE, or change the permissions.",
        )
    return StorageError(
        f"{doing} at {place} failed: {error.strerror or error}.",
        "Check the disk and run it again; nothing was registered.",
    )


def _free_space(place: str) -> str:
    folder = place if os.path.isdir(place) else os.path.dirname(place) or "."
    try:
        return f"Free there now: {shutil.disk_usage(folder).free / 2**20:,.0f} MiB."
    except OSError:
        return ""
