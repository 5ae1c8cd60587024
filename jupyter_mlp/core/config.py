"""Settings: argument > environment > file > default.

The file is `mlp.toml` in the workspace folder, or the one named by MLP_CONFIG:

    database = "postgresql://ann@host/mlp"      # records and lake catalog of a team; default: SQLite files in the workspace
    spark = "local[2]"                          # or "sc://host:15002"
    idle_stop_s = 1800                          # the warm local Spark server, and the warm parent of trainings, stop after
                                                # this time without work; 0: no warm parent
    keep_days = 90                              # mlp gc releases unused versions that are older; 0 (default): never
    keep_gb = 500                               # ... and the oldest unused ones above this size of the lake; 0: any size
    gc_grace_s = 3600                           # files younger than this are left alone: somebody may be writing them
    store = "redis://host:6379/0"               # of predictions by key (--serve-from store), or cassandra://host/keyspace;
                                                # default: a SQLite file in the workspace
    open_pages = "metrics,openapi"              # what an endpoint shows without its token, from its next deploy on; default: nothing
    serving_memory = "4GB"                      # what all endpoints of this workspace may take on this machine, from the next deploy
                                                # on; default: half of it. Above that, the one used longest ago gives its memory back,
    serving_idle_s = 90                         # after so long without a request, and loads again with the next request

    [cluster.lab]                               # %mlp_train ... --cluster lab; keys: core/clusters.py, docs/clusters.md
    kind = "slurm"                              # or "ray", address = "http://head:8265"
    partition = "gpu"

Every setting `name` but the clusters can be given as the environment variable `MLP_NAME`. A database's password is best left
to ~/.pgpass or PGPASSWORD, as for every Postgres client; where the URL has one, it is never shown, recorded or logged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import sizes
from jupyter_mlp.core.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    from jupyter_mlp.core.clusters import Cluster

_CLUSTER = "cluster"


@dataclass(frozen=True)
class Settings:
    """What can be set; the names are those of the file and, in capitals after MLP_, of the environment."""

    database: str = field(default="", repr=False)  # it may hold a password
    spark: str = "local[*]"
    spark_memory: str = "2g"
    idle_stop_s: float = 1800.0
    tracker: str = "none"
    keep_days: float = 0.0
    keep_gb: float = 0.0
    gc_grace_s: float = 3600.0
    smtp: str = field(default="", repr=False)  # of mails about schedules; it may hold a password
    smtp_from: str = ""
    store: str = field(default="", repr=False)  # of predictions by key; it may hold a password
    open_pages: str = ""  # of endpoints, that need no token, apart by commas: metrics, openapi
    serving_memory: str = ""  # of all endpoints on this machine together, like 4GB; half of the machine's where nothing is said
    serving_idle_s: float = 90.0  # for which nobody asked an endpoint that gives its memory back
    secret_keys: str = ""  # names of more variables whose values no snapshot may show, apart by commas
    processes: int = 0  # of training, at the same time on this machine; 0: one a GPU, or one a core
    cluster: Mapping[str, Cluster] = field(default_factory=dict)


def load(folder: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force for the workspace `folder`.

    Raises:
        InvalidInputError: the file has an unknown name or a value of the wrong type.
    """
    path = Path(environment.get("MLP_CONFIG") or folder / "mlp.toml")
    given = _read(path) if path.exists() else {}
    named = given.pop(_CLUSTER, {})
    for one in fields(Settings):
        if one.name == _CLUSTER:
            continue
        text = environment.get(f"MLP_{one.name.upper()}")
        if text is not None:
            given[one.name] = text
    found = Settings(cluster=_clusters(named, path), **{name: _typed(name, value, path) for name, value in given.items()})
    if found.serving_memory:
        sizes.read(found.serving_memory, "serving_memory")
    return found


def _clusters(named: Any, path: Path) -> dict[str, Cluster]:
    if not isinstance(named, Mapping):
        raise InvalidInputError(f"{path} sets cluster to {named!r}.", "Name a cluster as a table of its own: [cluster.NAME]")
    if not named:
        return {}
    from jupyter_mlp.core import clusters

    return {name: clusters.read(name, table, str(path)) for name, table in named.items()}


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path} is not valid TOML: {error}.", "Correct the line and run it again.") from error
    known = [one.name for one in fields(Settings)]
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
