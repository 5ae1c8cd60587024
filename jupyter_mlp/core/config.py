"""Settings: argument > environment > file > default.

The file is `mlp.toml` in the workspace folder, or the one named by MLP_CONFIG:

    records_url = "postgresql+psycopg://..."   # default: SQLite in the workspace folder
    spark = "local[2]"                          # or "sc://host:15002"
    idle_stop_s = 1800                          # the warm local Spark server stops after this time without a query

Every setting `name` can be given as the environment variable `MLP_NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, nearest


@dataclass(frozen=True)
class Settings:
    """What can be set; the names are those of the file and, in capitals after MLP_, of the environment."""

    records_url: str = ""
    spark: str = "local[*]"
    spark_memory: str = "2g"
    idle_stop_s: float = 1800.0
    tracker: str = "none"
    processes: int = 0  # of training, at the same time on this machine; 0: one a GPU, or one a core


def load(folder: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force for the workspace `folder`.

    Raises:
        InvalidInputError: the file has an unknown name or a value of the wrong type.
    """
    path = Path(environment.get("MLP_CONFIG") or folder / "mlp.toml")
    given = _read(path) if path.exists() else {}
    for field in fields(Settings):
        text = environment.get(f"MLP_{field.name.upper()}")
        if text is not None:
            given[field.name] = text
    return Settings(**{name: _typed(name, value, path) for name, value in given.items()})


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path} is not valid TOML: {error}.", "Correct the line and run it again.") from error
    known = [field.name for field in fields(Settings)]
    for name in values:
        if name not in known:
            raise InvalidInputError(f"{path} sets {name!r}, which is no setting.", nearest(name, known))
    return values


def _typed(name: str, value: Any, path: Path) -> Any:
    wanted = type(getattr(Settings, name))
    try:
        return wanted(value)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"The setting {name} is {value!r}, not a {wanted.__name__}.", f"Correct it in {path} or in MLP_{name.upper()}."
        ) from None
