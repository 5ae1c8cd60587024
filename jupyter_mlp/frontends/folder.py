"""The folder in which a notebook or a terminal works: where it was deleted, much fails, and no error of the system names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from jupyter_mlp.core.errors import StorageError


@contextmanager
def said_when_gone() -> Iterator[None]:
    """Say so where something fails and the folder is gone.

    Raises:
        StorageError: it was deleted.
    """
    try:
        yield
    except OSError as error:
        if _is_there():
            raise
        raise StorageError(
            "The folder in which this runs was deleted.", "Go to one that is there (cd FOLDER), and run it again."
        ) from error


def _is_there() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
