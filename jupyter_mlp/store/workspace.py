"""The workspace: records, lake and artifacts in one folder, and the kernel's one current workspace.

<workspace>/
  records.db            activities (or a Postgres, by the setting database)
  lake/                 Iceberg catalog (or the same Postgres) and tables, dataset versions among them
  artifacts/            immutable bytes named by content
  runs/<id>/            a training run: spec, code, log, events, checkpoints
  models/<uuid>/        a model: weights, exported graph, recipe, card
  endpoints/<name>/     an endpoint: wanted state, request log
  pipelines/<id>/       an executed notebook
  scratch/<id>/         the workspace of a verification, removed after it
  writers/              one locked file for each process that stages rows now; gc.lock: the one clean-up at work
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import config
from jupyter_mlp.store.activities import Activities
from jupyter_mlp.store.artifacts import Artifacts
from jupyter_mlp.store.database import Database

if TYPE_CHECKING:
    from jupyter_mlp.store.lake import Lake

_current: Workspace | None = None


class Workspace:
    """Everything that is remembered, under `root`.

    Args:
        parent: a workspace whose records and data can be read from here but are never written
            (verification works in a scratch workspace whose parent is the real one).
        pins: "kind:name" -> version that a name without version means here.
    """

    def __init__(self, root: Path | str, parent: Workspace | None = None, pins: Mapping[str, str] | None = None) -> None:
        self.root = Path(root).expanduser().absolute()
        self.parent = parent
        self._pins = pins
        self.seen: dict[str, str] = {}  # table -> the version this process last saw as its newest ("" for none)

    @cached_property
    def settings(self) -> config.Settings:
        """The settings in force here."""
        return config.load(self.parent.root if self.parent else self.root)

    @cached_property
    def database(self) -> Database:
        """The records database; a scratch workspace always has its own SQLite file."""
        return Database(self._server or f"sqlite:///{self.root / 'records.db'}")

    @property
    def _server(self) -> str:
        return "" if self.parent else self.settings.database

    @cached_property
    def activities(self) -> Activities:
        """The activity records."""
        return Activities(self.database, self.parent.activities if self.parent else None, self._pins)

    @cached_property
    def artifacts(self) -> Artifacts:
        """Immutable bytes by content."""
        return Artifacts(self.root / "artifacts")

    @cached_property
    def lake(self) -> Lake:
        """The Iceberg tables."""
        from jupyter_mlp.store.lake import Lake

        return Lake(self.root / "lake", self.parent.lake if self.parent else None, self._server)

    @cached_property
    def engine(self) -> Any:
        """What runs SQL here (Spark), without starting it."""
        from jupyter_mlp.core.plugins import load

        return load("engines", "spark")(self.settings)

    @property
    def runs(self) -> Path:
        """Folder of the training runs."""
        return self.root / "runs"

    @property
    def models(self) -> Path:
        """Folder of the models."""
        return self.root / "models"

    @property
    def endpoints(self) -> Path:
        """Folder of the endpoints."""
        return self.root / "endpoints"

    @property
    def pipelines(self) -> Path:
        """Folder of the executed notebooks."""
        return self.root / "pipelines"

    def cut(self) -> dict[str, str]:
        """Return what every name of a table or dataset means at this moment: "kind:name" -> version."""
        tables = {f"table:{name}": self.lake.current(name) for name in self.lake.names()}
        datasets = {f"dataset:{name}": self.activities.newest("dataset", name) for name in self.activities.names("dataset")}
        made = {name: ref.version for name, ref in datasets.items() if ref}
        return {name: version for name, version in {**tables, **made}.items() if version}

    def find(self, *parts: str) -> Path:
        """Return the path below the root of this workspace or, where it does not exist here, of its parent."""
        here = self.root.joinpath(*parts)
        return here if here.exists() or self.parent is None else self.parent.find(*parts)


def default_root() -> Path:
    """Return MLP_WORKSPACE, else the user's own workspace folder."""
    named = os.environ.get("MLP_WORKSPACE")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "jupyter_mlp" / "workspace"


def current() -> Workspace:
    """Return the workspace this process works in, opening the default one at first use.

    A process started for a pipeline or a verification finds its pins in the file MLP_PINS and its parent in MLP_PARENT.
    """
    global _current
    if _current is None or _current.root != default_root().expanduser().absolute():
        parent = os.environ.get("MLP_PARENT")
        told = os.environ.get("MLP_PINS")
        pins = json.loads(Path(told).read_text(encoding="utf-8")) if told else None
        _current = Workspace(default_root(), Workspace(parent) if parent else None, pins)
    return _current
