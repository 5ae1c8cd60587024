"""Garbage collection: what nothing reaches goes, in an order that a crash cannot hurt.

    1  lock; note since when living writers write                   (writers.py)
    2  read the records: what they hold, what they have released     (holders.py)
    3  tables: tag what is held, expire the rest, one commit each    (table_versions.py)
    4  read the tables again; walk the folders; delete what neither a table nor a record reaches

A version's bytes are deleted only after the commit that takes it out of its table, and that only after its release is on
record. So a crash leaves either everything in place or bytes that nothing reaches, which the next run finds. What was
released goes at once; what nobody ever recorded goes only when it is older than the grace time and than every living writer.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_mlp.core.entities import FORGOTTEN, RUNNING
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import catalog_guard, deployments, jobs, table_versions, writers
from jupyter_mlp.store.artifacts import TEMPORARY
from jupyter_mlp.store.holders import Record, Records
from jupyter_mlp.store.lake import split
from jupyter_mlp.store.table_versions import Change, TableVersions
from jupyter_mlp.store.workspace import Workspace
from jupyter_mlp.store.writers import Since

RELEASED, DROPPED, LEFT_OVER = "released", "of a dropped table", "left over"
_LOST_S = 7 * 86_400.0  # what another machine began so long ago and never ended is taken for dead
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_FOLDERS = ("lake", "cache/arrow", "artifacts", "runs", "models", "endpoints", "pipelines", "scratch")


@dataclass(frozen=True)
class Item:
    """A file that nothing reaches: why it is there, and its size in bytes."""

    path: str
    bytes: int
    why: str


@dataclass
class Reach:
    """What must stay, and what was released and may go at once.

    Attributes:
        files: paths of single files. `folders`: whatever lies directly in them stays.
        trees: whole folders, by their path below the workspace, that stay; `released_trees`: that go.
        dropped: folders of tables that are no more, where only who makes one of that name again may write.
    """

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    released_files: set[str] = field(default_factory=set)
    released_folders: set[str] = field(default_factory=set)
    released_trees: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)


def since(workspace: Workspace) -> Since:
    """Return since when somebody who still lives may be writing; records of the dead are closed on the way."""
    running = [jobs.settled(workspace, one) for one in workspace.activities.recent(limit=100_000, state=RUNNING)]
    lost = time.time() - _LOST_S
    begun = [one.started_at for one in running if one.state == RUNNING and (one.kind == "train" or one.started_at > lost)]
    return writers.since(workspace.root, workspace.settings.gc_grace_s, begun)


def changes(workspace: Workspace, records: Records, since: Since) -> list[tuple[TableVersions, Change]]:
    """Return what is to be done to each table of the lake."""
    held, released = versions(_held(records)), versions(records.releasers)
    found = []
    for table in table_versions.every(workspace.lake):
        mine = held.get(table.name, set())
        found.append((table, table.change(mine, released.get(table.name, set()) - mine, since.old)))
    return found


def versions(described: Mapping[Ref, list[Record]]) -> dict[str, set[int]]:
    """Return the Iceberg snapshots behind some references, by table; with each come the records that tell where it is."""
    found: dict[str, set[int]] = {}
    for ref, records in described.items():
        if ref.kind == "table" and ref.version and ref.version.isdigit():
            found.setdefault(ref.name, set()).add(int(ref.version))
        elif ref.kind == "dataset":
            for record in records:
                told = record.facts.get("dataset") or {}
                if str(told.get("snapshot", "")).isdigit():
                    found.setdefault(told["table"], set()).add(int(told["snapshot"]))
    return found


def _held(records: Records) -> dict[Ref, list[Record]]:
    return {ref: records.describers(ref) for ref in records.held}


def commit(workspace: Workspace, planned: list[tuple[TableVersions, Change]], records: Records) -> None:
    """Carry out what was planned for the tables; where somebody committed meanwhile, that table waits for the next time."""
    held = versions(_held(records))
    for table, change in planned:
        table.apply(workspace.lake, change)
        if not change.drop and not held.get(table.name):
            catalog_guard.release(workspace.lake.place, *split(table.name))


def reach(workspace: Workspace, records: Records, planned: list[tuple[TableVersions, Change]]) -> Reach:
    """Return what must stay when `planned` has been done."""
    found = Reach()
    for table, change in planned:
        kept = set() if change.drop else set(table.all) - set(change.expire)
        found.files |= set() if change.drop else table.files(kept) | table.own_files()
        found.released_files |= table.files(set(table.all) - kept) | (table.own_files() if change.drop else set())
    there = {table.name for table, change in planned if not change.drop}
    found.dropped = {"/".join(["lake", *split(ref.name)]) for ref in records.released if ref.kind == "table" and ref.name not in there}
    found.folders = _dataset_folders(workspace, _held(records))
    found.released_folders = _dataset_folders(workspace, records.releasers) - found.folders
    living = [record for record in records.records if record.state != FORGOTTEN]
    gone = [record for record in records.records if record.state == FORGOTTEN]
    found.trees = _trees(workspace, records.held, living) | _endpoints(workspace, records.held)
    found.released_trees = _trees(workspace, records.released, gone) - found.trees
    found.released_trees |= {f"endpoints/{ref.name}" for ref in records.released if ref.kind == "endpoint"} - found.trees
    return found


def walk(workspace: Workspace, reached: Reach, since: Since) -> Iterator[Item]:
    """Yield every file of the workspace that nothing reaches and that no living writer can be at."""
    for top in _FOLDERS:
        for folder, folders, names in os.walk(workspace.root / top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                why = _why(workspace, path, reached)
                try:
                    found = os.stat(path, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                # An artifact that was released may be put again, by somebody whose record does not name it yet.
                released = since.living if top == "artifacts" else math.inf
                if why and found.st_ctime < {RELEASED: released, DROPPED: since.living, LEFT_OVER: since.old}[why]:
                    yield Item(path, found.st_size, why)


def delete(workspace: Workspace, items: Iterable[Item], since: Since) -> int:
    """Delete files and the folders they leave empty; return the bytes that became free."""
    freed = 0
    folders: set[str] = set()
    for item in items:
        try:
            os.unlink(item.path)
        except FileNotFoundError:
            continue
        freed += item.bytes
        folders.add(os.path.dirname(item.path))
    _remove_empty(workspace, folders, since)
    return freed


def _why(workspace: Workspace, path: str, reached: Reach) -> str | None:
    """Why a file may go; None for one that stays."""
    parts = Path(path).relative_to(workspace.root).parts
    if any(part.startswith(TEMPORARY) for part in parts):
        return LEFT_OVER
    if parts[0] == "lake":
        folder = os.path.dirname(path)
        if len(parts) == 2 or parts[1].startswith("."):
            return None  # the catalog, and what its writers queue at
        if path in reached.files or folder in reached.folders:
            return None
        if path in reached.released_files or folder in reached.released_folders:
            return RELEASED
        return DROPPED if "/".join(parts[:3]) in reached.dropped else LEFT_OVER
    tree = f"artifacts/{parts[-1][:64]}" if parts[0] == "artifacts" else "/".join(parts[:2])
    if parts[0] == "cache":
        tree = f"cache/{parts[-1].removesuffix('.arrow')}"  # one that is still written has another ending
    if tree in reached.trees:
        return None
    return RELEASED if tree in reached.released_trees else LEFT_OVER


def _dataset_folders(workspace: Workspace, described: Mapping[Ref, list[Record]]) -> set[str]:
    told = (dataset_files(workspace, records) for ref, records in described.items() if ref.kind == "dataset")
    return {os.path.dirname(path) for paths in told for path in paths}


def dataset_files(workspace: Workspace, records: Iterable[Record]) -> set[str]:
    """Return the paths of a dataset version's files, as the records that made it tell them."""
    told = (record.facts.get("dataset") or {} for record in records)
    return {str(workspace.root / name) for one in told for name in one.get("files", ())}


def _trees(workspace: Workspace, refs: Iterable[Ref], records: list[Record]) -> set[str]:
    """The run, model and pipeline folders and the artifacts that some things and records are about."""
    found = {f"{ref.kind}s/{ref.name}" for ref in refs if ref.kind in ("run", "model", "pipeline")}
    found |= {f"cache/{ref.version}" for ref in refs if ref.kind == "dataset"}
    for record in records:
        found |= {f"runs/{record.id}"} if record.kind == "train" else set()
        found |= {f"pipelines/{one}" for one in _RUN_ID.findall(record.text)} if record.kind == "pipeline" else set()
        digests = set(_DIGEST.findall(record.text))
        if record.kind == "snapshot" and record.facts.get("manifest"):
            digests |= _of_manifest(workspace, str(record.facts["manifest"]))
        found |= {f"artifacts/{digest}" for digest in digests}
        if record.kind == "train" and record.state == RUNNING:
            spec = jobs.RunFolder(workspace.runs / record.id).read("spec.json") or {}
            found.add(f"models/{spec.get('model')}")  # published before the record says so
    return found


def _of_manifest(workspace: Workspace, digest: str) -> set[str]:
    try:
        return set(_DIGEST.findall(workspace.artifacts.path(digest).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return set()


def _endpoints(workspace: Workspace, refs: Iterable[Ref]) -> set[str]:
    recorded = {ref.name for ref in refs if ref.kind == "endpoint"}
    running = {name for name in deployments.names(workspace) if deployments.folder(workspace, name).running}
    return {f"endpoints/{name}" for name in recorded | running}


def _remove_empty(workspace: Workspace, emptied: set[str], since: Since) -> None:
    """Remove the folders of what is gone, and others that are empty and were left alone: nobody is about to write there."""
    for folder in sorted(emptied, key=len, reverse=True):
        while _is_of_one_thing(Path(folder).relative_to(workspace.root).parts) and _removed(folder):
            folder = os.path.dirname(folder)
    for top in _FOLDERS:
        for folder, folders, names in os.walk(workspace.root / top, topdown=False):
            if not folders and not names and folder != str(workspace.root / top) and os.stat(folder).st_ctime < since.old:
                _removed(folder)


def _is_of_one_thing(parts: tuple[str, ...]) -> bool:
    """Whether a folder belongs to one version, run, model ... alone, so that nobody else ever writes into it."""
    if parts[0] in ("lake", "artifacts", "cache"):
        return parts[:2] == ("lake", "datasets") and len(parts) == 4 and parts[3] not in ("data", "metadata")
    return len(parts) >= 2


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True
