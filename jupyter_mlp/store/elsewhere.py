"""Data that is learned from where it lies: a table of the lake, or Parquet files at a URL. Nothing is copied; what was there is pinned.

    trips                     a dataset
    lake.trips                a table: the files of its newest version, those that it has in place, too
    s3://bucket/trips         Parquet files: a URL, folder or glob that fsspec reaches, or a path with a / in it

What names of folders say (`year=2013/`) is a column. Files of a URL become `file:s3://bucket/trips@<digest>`, made of each file's size
and time or tag. Who reads them later compares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import datasets, filesystems, fingerprints, table_versions
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.fingerprints import public
from jupyter_mlp.store.row_groups import RowGroups, said_by_folder
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_LOOKS_AT_ONCE = 16


def load(workspace: Workspace, data: str | Ref | DatasetVersion) -> DatasetVersion:
    """Return what is named as data: a dataset, a table, or the files of a URL or path as they are now.

    Raises:
        NotFoundError: there is none. InvalidInputError: these files cannot be learned from where they lie.
        StorageError: the place cannot be read, or a file changed since it was taken.
    """
    if isinstance(data, DatasetVersion):
        return data
    text = str(data)
    if text.startswith("file:") and "@" in text:
        return _known(workspace, Ref.parse(text))
    if filesystems.is_place(text):
        return _taken(workspace, text.removeprefix("file://").removeprefix("local://"))
    if text.startswith("table:") or "." in text.removeprefix("dataset:").split("@")[0]:
        return _table(workspace, Ref.parse(text, kind="table"))
    return datasets.load(workspace, data)


def _table(workspace: Workspace, ref: Ref) -> DatasetVersion:
    from jupyter_mlp.store import lake

    full = ".".join(lake.split(ref.name))
    wanted = ref.version or workspace.activities.pins.get(f"table:{full}") or workspace.lake.current(full)
    if wanted is None:
        hint = nearest(full, workspace.lake.names()) or "%mlp_table NAME FILE_OR_FRAME writes one."
        raise NotFoundError(f"No table {full} in the lake.", hint)
    version = workspace.lake.version(full, wanted, None)
    exact = Ref("table", full, version)
    fingerprints.check(workspace, full, version)
    files, schema = workspace.lake.files(full, version), workspace.lake.schema(full, version)
    if not files:
        raise InvalidInputError(f"{full} has no rows.", f"%mlp_table {full} FILES writes some.")
    shapes = [footer.schema.to_arrow_schema() for footer in RowGroups({}).footers(files)]
    for path, shape in zip(files, shapes, strict=True):
        if set(shape.names) != set(schema.names) or not _same(shape, shapes[0]):
            raise InvalidInputError(
                f"{full} has files of several shapes: {path.rsplit('/', 1)[-1]} lacks a column, or has one of another type.",
                f"Make one of them: %%mlp_data {full.split('.')[-1]}  SELECT * FROM {full}",
            )
    table_versions.protect(workspace.lake, exact)
    workspace.activities.taken.append(exact)
    pins = {unquote(used.name): str(used.version) for used in fingerprints.carried(workspace, full, version)}
    rows = workspace.lake.rows(full, version)
    return DatasetVersion(exact, (exact,), "", {}, rows, 0, files, "", _columns(schema, rows), pins=pins, elsewhere=True)


def _taken(workspace: Workspace, url: str) -> DatasetVersion:
    """Pin the files of a place as they are now; the same files are the same version."""
    used, told = _looked_at(url)
    where = public(url).rstrip("/") if filesystems.is_remote(url) else filesystems.local(url)
    made = Ref("file", quote(where, safe="/:._-*=[],"), digest("files", where, [str(ref) for ref in used]))
    key = digest("files", 1, str(made))
    known = workspace.activities.find(key)
    if known is not None:
        return _of_activity(workspace.activities.again(known), made)
    with workspace.activities.recording("files", name=where, key=key, used=used, parameters={"source": where}) as draft:
        draft.made.append(made)
        draft.facts["files"] = told
    return _of_activity(draft.activity, made)


def _looked_at(url: str) -> tuple[list[Ref], dict[str, Any]]:
    """The exact reference of each file of a place, and what a reader must know of them all."""
    import pyarrow as pa

    try:
        system, path = filesystems.opened(url, anew=True)
        paths = _matching(system, path)
    except Exception as error:  # each filesystem has exceptions of its own
        raise filesystems.sentence(error, url) from error
    if not paths:
        raise NotFoundError(
            f"There is no Parquet file at {public(url)}.", "Check it; a folder, or a glob such as s3://bucket/trips/*.parquet works too."
        )
    named = list(filesystems.names(url, paths))
    try:
        with ThreadPoolExecutor(_LOOKS_AT_ONCE if system.async_impl else 1) as pool:
            stamps = list(pool.map(lambda one: filesystems.stamp(system, one), paths))
    except Exception as error:
        raise filesystems.sentence(error, url) from error
    pins = dict(zip(named, stamps, strict=True))
    footers = list(RowGroups(pins, system=system).footers(named))
    schema = footers[0].schema.to_arrow_schema().remove_metadata()
    for name, footer in zip(named, footers, strict=True):
        if not _same(footer.schema.to_arrow_schema(), schema):
            raise InvalidInputError(
                f"{public(name)} has other columns than {public(named[0])}.",
                f"%mlp_table NAME {public(url)} brings them together in the lake; then --data lake.NAME",
            )
    folders = {name: kind for name, kind in _said_by_folders(path, paths).items() if name not in schema.names}
    rows = sum(footer.num_rows for footer in footers)
    size = sum(footer.row_group(i).total_byte_size for footer in footers for i in range(footer.num_row_groups))
    used = [Ref("file", quote(public(name), safe="/:._-"), stamp) for name, stamp in pins.items()]
    schema = pa.schema([*schema, *(pa.field(name, kind) for name, kind in folders.items())])
    return used, {"pins": pins, "folders": folders, "rows": rows, "bytes": size, "preview": _columns(schema, rows)}


def _matching(system: Any, path: str) -> list[str]:
    if any(mark in path for mark in "*["):
        found = system.glob(path)
    elif path.endswith(_ENDS):
        system.info(path)  # raises where there is none
        found = [path]
    else:
        found = system.find(path)
        if not found:
            system.info(path)
    return sorted(one for one in found if one.endswith(_ENDS) and not one.rsplit("/", 1)[-1].startswith(("_", ".")))


_ENDS = (".parquet", ".pq")


def _said_by_folders(path: str, paths: Sequence[str]) -> dict[str, str]:
    """The columns that names of folders below the named one say, `year=2013/`, and their types: whole numbers, or text."""
    above = re.split(r"[*\[]", path)[0].rpartition("/")[0] if re.search(r"[*\[]", path) else path.rstrip("/")
    names = dict.fromkeys(part.split("=")[0] for one in paths for part in one[len(above) :].split("/")[:-1] if "=" in part)
    values = {name: [said for one in paths if (said := said_by_folder(one, name)) is not None] for name in names}
    return {name: "int64" if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", one) for one in said) else "string" for name, said in values.items()}


def _known(workspace: Workspace, ref: Ref) -> DatasetVersion:
    exact = workspace.activities.resolve(ref)
    maker = next((one for one in [workspace.activities.maker(exact)] if one and "files" in one.facts), None)
    if maker is None:
        raise StorageError(f"{exact} has no record.", "Name the URL itself: that takes the files as they are now.")
    return _of_activity(maker, exact)


def _of_activity(activity: Activity, ref: Ref) -> DatasetVersion:
    told, shown = activity.facts["files"], activity.facts["files"]["preview"]
    found = DatasetVersion(ref, activity.used, "", {}, told["rows"], told["bytes"], list(told["pins"]), "", shown, elsewhere=True)
    return replace(found, pins=told["pins"], folders=told["folders"])


def _same(one: pa.Schema, other: pa.Schema) -> bool:
    """Whether a file has the columns that all have; their order, and whether they may be null, is each file's own."""
    return {column.name: str(column.type) for column in one} == {column.name: str(column.type) for column in other}


def _columns(schema: pa.Schema, rows: int) -> dict[str, Any]:
    return {"rows": rows, "columns": [{"name": column.name, "type": str(column.type)} for column in schema], "first": []}
