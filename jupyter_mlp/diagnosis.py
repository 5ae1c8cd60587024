"""Whether this installation is healthy: workspace, disk, packages, Java, GPUs and settings, and what to type where one is not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.store import gpus, servers
from jupyter_mlp.store.workspace import Workspace, current


@dataclass(frozen=True)
class Check:
    """One thing the doctor looked at: what, what was found, whether it is well, and what to type when it is not."""

    name: str
    found: str
    ok: bool
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(Shown):
    """What the doctor found."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is well."""
        return all(check.ok for check in self.checks)

    @property
    def ref(self) -> str:
        """A diagnosis is not recorded."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the checks as JSON types."""
        return {"kind": "diagnosis", "ok": self.ok, "checks": [vars(check) for check in self.checks]}

    def card(self) -> Card:
        """Return the checks as a table, with the remedies below."""
        rows = [("ok" if check.ok else "NOT OK", check.name, check.found) for check in self.checks]
        notes = [f"{check.name}: {check.remedy}" for check in self.checks if not check.ok and check.remedy]
        return Card("All is well." if self.ok else "Something needs mending.", tables=[Table(["", "what", "found"], rows)], notes=notes)


def doctor() -> Diagnosis:
    """Check workspace, disk, packages, Java and GPUs; never starts anything heavy."""
    workspace = current()
    return Diagnosis(
        (_python(), _folder(workspace), _records(workspace), _lake(workspace), *_packages(), _java(), _gpus(), _settings(workspace))
    )


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", f"{version} at {sys.executable}", fits, "Use Python 3.11, 3.12 or 3.13.")


def _folder(workspace: Workspace) -> Check:
    folder = workspace.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    well = os.access(folder, os.W_OK) and free > 1
    return Check("workspace", f"{workspace.root}, {free:,.0f} GiB free", well, "Name a writable folder with space in MLP_WORKSPACE.")


def _records(workspace: Workspace) -> Check:
    try:
        count = len(workspace.activities.recent(limit=1))
    except MLPError as error:
        return Check("records", error.message, False, error.hint)
    return Check("records", workspace.database.url.split("@")[-1] + (", some activities" if count else ", empty"), True)


def _lake(workspace: Workspace) -> Check:
    try:
        count = len(workspace.lake.names())
    except MLPError as error:
        return Check("lake", error.message, False, error.hint)
    return Check("lake", f"{count:,} table{'s' * (count != 1)}", True)


def _packages() -> list[Check]:
    from importlib import metadata

    wanted = {
        "pyspark": "spark",
        "torch": "train",
        "lightning": "train",
        "onnxruntime": "serve",
        "uvicorn": "serve",
        "papermill": "notebook",
    }
    checks = []
    for package, extra in wanted.items():
        found = metadata.version(package) if importlib.util.find_spec(package) else "not installed"
        checks.append(Check(package, found, found != "not installed", f"pip install 'jupyter_mlp[{extra}]'"))
    return checks


def _java() -> Check:
    if not importlib.util.find_spec("pyspark"):
        return Check("Java", "not looked for: pyspark is not installed", True)
    from jupyter_mlp.core.plugins import load

    try:
        return Check("Java", str(load("engines", "spark").describe_java()), True)
    except MLPError as error:
        return Check("Java", error.message, False, error.hint)


def _gpus() -> Check:
    found = gpus.names()
    if not found:
        return Check("GPUs", "none: training runs on the processor", True)
    from importlib import metadata

    torch = metadata.version("torch") if importlib.util.find_spec("torch") else ""
    told = f"{', '.join(found)}{f'; torch {torch}' if torch else ''}"
    return Check("GPUs", told, not torch.endswith("+cpu"), "This torch is built without CUDA. Install the one that is built for it.")


def _settings(workspace: Workspace) -> Check:
    try:
        values = {**vars(workspace.settings), "database": servers.public(workspace.settings.database)}
        values["cluster"] = "/".join(workspace.settings.cluster)  # its environment may hold what is not to be shown
        values["smtp"] = values["smtp"].rsplit("@", 1)[-1]  # without user and password
        shown = ", ".join(f"{k}={v}" for k, v in values.items() if v)
    except MLPError as error:
        return Check("settings", error.message, False, error.hint)
    return Check("settings", shown, True)
