"""Migrations of the records database, run by alembic; only this package imports SQLAlchemy for SQLite."""

from __future__ import annotations

import time
from pathlib import Path

_BUSY_S = 30.0


def upgrade(url: str) -> None:
    """Bring the database at `url` to the newest schema, in one transaction.

    Raises:
        StorageError: the database cannot be written, or a newer version of this package wrote it.
    """
    from alembic import command
    from alembic.util import CommandError
    from sqlalchemy.exc import OperationalError

    from jupyter_mlp.core.errors import StorageError
    from jupyter_mlp.store import servers

    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            if url.startswith("sqlite"):
                command.upgrade(_config(url), "head")
            else:
                with servers.plain_errors():
                    command.upgrade(_config(servers.normal(url)), "head")
            return
        except CommandError as error:
            raise StorageError(
                f"The records database was written by another version: {error}.", "Upgrade: pip install -U jupyter_mlp"
            ) from error
        except OperationalError as error:
            if "locked" in str(error.orig) and time.monotonic() < deadline:
                time.sleep(0.05)  # another process makes it: SQLite does not wait by itself while the journal's mode changes
                continue
            raise StorageError(
                f"The records database cannot be opened: {str(error.orig).strip().splitlines()[0]}.",
                "Name a writable folder in the environment variable MLP_WORKSPACE, or free some space.",
            ) from error


def heads() -> tuple[str, ...]:
    """Return alembic's own idea of the newest migration."""
    from alembic.script import ScriptDirectory

    return tuple(ScriptDirectory.from_config(_config("sqlite://")).get_heads())


def _config(url: str):  # type: ignore[no-untyped-def]  # alembic's Config, imported late
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config
