"""Names of outside systems -> the class that speaks to them; nothing is imported until it is asked for.

Other packages add theirs through the entry-point groups `jupyter_mlp.engines`, `.launchers`, `.manifests`, `.places`, `.stores`
and `.trackers`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import MissingPackageError, NotFoundError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

# group -> name -> (dotted path, the line that installs what it needs)
_KNOWN: dict[str, dict[str, tuple[str, str]]] = {
    "engines": {"spark": ("jupyter_mlp.backends.spark:SparkEngine", "pip install 'jupyter_mlp[spark]'")},
    "stores": {
        "sqlite": ("jupyter_mlp.backends.store_sqlite:SqliteStore", "pip install 'jupyter_mlp[serve]'"),
        "redis": ("jupyter_mlp.backends.store_redis:RedisStore", "pip install 'jupyter_mlp[redis]'"),
        "cassandra": ("jupyter_mlp.backends.store_cassandra:CassandraStore", "pip install 'jupyter_mlp[cassandra]'"),
    },
    "manifests": {
        "systemd": ("jupyter_mlp.backends.manifests:systemd", "pip install jupyter_mlp"),
        "kserve": ("jupyter_mlp.backends.manifests:kserve", "pip install jupyter_mlp"),
    },
    "trackers": {"wandb": ("jupyter_mlp.backends.wandb:logger", "pip install 'jupyter_mlp[wandb]'")},
    "places": {
        "local": ("jupyter_mlp.serving.control:ThisMachine", "pip install 'jupyter_mlp[serve]'"),
        "ray": ("jupyter_mlp.backends.ray_serve:RayServe", "pip install 'jupyter_mlp[serve]'"),
    },
    "launchers": {
        "local": ("jupyter_mlp.backends.local:LocalLauncher", "pip install 'jupyter_mlp[train]'"),
        "ray": ("jupyter_mlp.backends.ray:RayLauncher", "pip install 'jupyter_mlp[train]'"),
        "slurm": ("jupyter_mlp.backends.slurm:SlurmLauncher", "pip install 'jupyter_mlp[train]'"),
    },
}


def names(group: str) -> list[str]:
    """Return the known names of a group, ours and those of installed packages."""
    return sorted({*_KNOWN[group], *(point.name for point in _installed(group))})


def load(group: str, name: str) -> Any:
    """Return the class or function registered under `name`.

    Raises:
        NotFoundError: the name is unknown; the known ones are listed.
        MissingPackageError: a package it needs is not installed.
    """
    if name in _KNOWN[group]:
        path, install = _KNOWN[group][name]
        module, attribute = path.split(":")
        try:
            return getattr(import_module(module), attribute)
        except ImportError as error:
            raise MissingPackageError(f"{name} needs {error.name}, which is not installed.", install) from error
    for point in _installed(group):
        if point.name == name:
            return point.load()
    raise NotFoundError(f"There is no {group.removesuffix('s')} {name!r}.", nearest(name, names(group)))


def _installed(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # 15 ms, which an answer that is known need not wait for

    return entry_points(group=f"jupyter_mlp.{group}")
