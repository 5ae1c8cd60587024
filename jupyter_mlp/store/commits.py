"""One commit to an Iceberg table: exactly one snapshot, tagged, in one swap of the table's metadata.

pyiceberg's own transactions would do, but each of their steps copies the list of all versions (about 18 times a commit: 0.3 s
at 300 versions), an overwrite makes two snapshots of which one is empty, and the emptied manifests of all overwrites are
carried along for ever. Here the manifest, the manifest list and the metadata are written with pyiceberg's writers, once each,
and the catalog's pointer is swapped on the condition that it still points where we read.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import ConflictError, MLPError
from jupyter_mlp.core.imports import importing
from jupyter_mlp.store import evolution
from jupyter_mlp.store.catalog import Catalog
from jupyter_mlp.store.catalog_reads import IN_PLACE

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

FOR_EVER_MS = 2**63 - 1  # said with every tag, or a table's history.expire.max-ref-age-ms could take it
_MANIFESTS = 100  # more of them are merged into one: a scan opens each


class MovedError(ConflictError):
    """The table is not at the version that was to be replaced.

    Attributes:
        current: the version it is at; None when it has none.
    """

    def __init__(self, message: str, hint: str = "", current: str | None = None) -> None:
        super().__init__(message, hint)
        self.current = current


@dataclass(frozen=True)
class Elsewhere:
    """What a version is called in the lake that it comes from, and when it was made there, in milliseconds."""

    snapshot: int
    at_ms: int


@dataclass(frozen=True)
class Commit:
    """A version and the one it came after (the same where nothing had to be written), its rows and its columns."""

    snapshot: str
    parent: str | None
    rows: int
    schema: pa.Schema


def make_ready() -> None:
    """Import what a commit needs, half a second of it, before somebody waits for one."""
    with importing():
        import pyiceberg.io.pyarrow
        import pyiceberg.manifest
        import pyiceberg.serializers
        import pyiceberg.table.locations  # noqa: F401


def commit(
    catalog: Catalog,
    table: Table,
    schema: pa.Schema,
    uris: Sequence[str],
    *,
    append: bool,
    replaces: str | None,
    lying: bool = False,
    known: Elsewhere | None = None,
    noted: Mapping[str, str] | None = None,
) -> Commit:
    """Make the files the table's next version, or add them to its newest.

    Args:
        known: the version is one of another lake, and keeps its name and time.
        noted: properties that the table gets in the same swap; it keeps its others.

    Raises:
        MovedError: the newest version is not `replaces`.
        InvalidInputError: the columns do not fit.
        CommitFailedException: another writer swapped the metadata first; nothing of ours is in the table.
    """
    from pyiceberg.exceptions import CommitFailedException

    parent = table.current_snapshot()
    before = str(parent.snapshot_id) if parent else None
    if not append and replaces is not None and (before or "") != replaces:
        raise MovedError(f"The table is at version {before}, not at {replaces or 'none'}.", "Look at it, then run the cell again.", before)
    metadata = evolution.evolved(table, schema, append)
    metadata = metadata.model_copy(update={"properties": {**metadata.properties, **(noted or {})}})
    if append and parent and not uris and metadata.schema() == table.schema():
        return _told(parent, before, metadata)
    pieces = _Pieces(table, metadata, known)
    try:
        made = pieces.snapshot(uris, append, lying)
        catalog.swap(table, _with_version(metadata, made, table))
    except (CommitFailedException, MLPError, ValueError, TypeError, NotImplementedError):
        pieces.discard()  # of anything else the outcome is not known: the pieces may be in use
        raise
    return _told(made, before, metadata)


def _told(snapshot: Snapshot, before: str | None, metadata: TableMetadata) -> Commit:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    rows = snapshot.summary["total-records"] if snapshot.summary else None
    return Commit(str(snapshot.snapshot_id), before, int(rows or 0), schema_to_pyarrow(metadata.schema(), include_field_ids=False))


def _with_version(metadata: TableMetadata, snapshot: Snapshot, table: Table) -> TableMetadata:
    """The metadata with one version more, newest on the main branch and tagged.

    The tag is in the same swap, so that no expiry can come between a version and its protection.
    """
    from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
    from pyiceberg.table.snapshots import MetadataLogEntry, SnapshotLogEntry

    number, now = snapshot.snapshot_id, snapshot.timestamp_ms
    main = metadata.refs.get("main") or SnapshotRef.model_validate({"snapshot-id": number, "type": SnapshotRefType.BRANCH})
    refs = {
        **metadata.refs,
        "main": main.model_copy(update={"snapshot_id": number}),
        f"mlp-{number}": SnapshotRef.model_validate({"snapshot-id": number, "type": SnapshotRefType.TAG, "max-ref-age-ms": FOR_EVER_MS}),
    }
    kept = int(metadata.properties.get("write.metadata.previous-versions-max", 100))
    left = MetadataLogEntry.model_validate({"metadata-file": table.metadata_location, "timestamp-ms": table.metadata.last_updated_ms})
    return metadata.model_copy(
        update={
            "snapshots": [*metadata.snapshots, snapshot],
            "current_snapshot_id": number,
            "refs": refs,
            "last_sequence_number": snapshot.sequence_number or 0,
            "last_updated_ms": now,
            "snapshot_log": [*metadata.snapshot_log, SnapshotLogEntry.model_validate({"snapshot-id": number, "timestamp-ms": now})],
            "metadata_log": [*metadata.metadata_log, left][-kept:],
        }
    )


def _has_files_in_place(snapshot: Snapshot | None) -> bool:
    return bool(snapshot and snapshot.summary and snapshot.summary.get(IN_PLACE) == "true")


def _data_file(io: Any, metadata: TableMetadata, uri: str) -> DataFile:
    """Return what a manifest says of a Parquet file."""
    from pyiceberg.io.pyarrow import compute_statistics_plan

    schema = metadata.schema()
    try:
        return _described(io, metadata, uri, compute_statistics_plan(schema, metadata.properties))
    except OverflowError:  # the year 99999 is no date of Python's: that file goes without lowest and highest values
        counted = {**metadata.properties, "write.metadata.metrics.default": "counts"}
        return _described(io, metadata, uri, compute_statistics_plan(schema, counted))


def _described(io: Any, metadata: TableMetadata, uri: str, plan: Any) -> DataFile:
    """As pyiceberg's parquet_file_to_data_file, whose check draws both schemas for a terminal even when they are one."""
    import pyarrow.parquet as pq
    from pyiceberg.io import pyarrow as bridge
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat

    schema, file = metadata.schema(), io.new_input(uri)
    with file.open() as stream:
        found = pq.read_metadata(stream)
    held = bridge.pyarrow_to_schema(found.schema.to_arrow_schema(), name_mapping=schema.name_mapping)
    if not _same(schema, held):
        bridge._check_pyarrow_schema_compatible(schema, found.schema.to_arrow_schema(), format_version=metadata.format_version)
    counted = bridge.data_file_statistics_from_parquet_metadata(found, plan, bridge.parquet_path_to_id_mapping(schema))
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=uri,
        file_format=FileFormat.PARQUET,
        partition=counted.partition(metadata.spec(), schema),
        file_size_in_bytes=len(file),
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **counted.to_serialized_dict(),
    )


def _same(wanted: Schema, held: Schema) -> bool:
    """Whether a file's columns are the table's; one that holds no NULL may stand where NULL is allowed."""
    pairs = zip(wanted.fields, held.fields, strict=False)
    alike = (a.field_id == b.field_id and a.field_type == b.field_type and (b.required or not a.required) for a, b in pairs)
    return len(wanted.fields) == len(held.fields) and all(alike)


class _Pieces:
    """The files that make up a snapshot, written before the swap."""

    def __init__(self, table: Table, metadata: TableMetadata, known: Elsewhere | None = None) -> None:
        self.number = known.snapshot if known else metadata.new_snapshot_id()
        self._time = {"timestamp-ms": known.at_ms} if known else {}
        self._table = table
        self._metadata = metadata
        self._sequence = metadata.next_sequence_number()
        self._written: list[str] = []

    def snapshot(self, uris: Sequence[str], append: bool, lying: bool) -> Snapshot:
        """Write manifests and their list; return the snapshot that names them."""
        from pyiceberg.manifest import write_manifest_list
        from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries

        metadata, io = self._metadata, self._table.io
        schema, spec = metadata.schema(), metadata.spec()
        parent = metadata.current_snapshot()
        added = [_data_file(io, metadata, uri) for uri in uris]
        summary = SnapshotSummaryCollector()
        for file in added:
            summary.add_file(file, schema, spec)
        manifests = [self._manifest(spec, [self._entry(file) for file in added])] if added else []
        if parent and append:
            manifests += self._merged(list(parent.manifests(io)))
        elif parent:
            for kind, entries in self._removed(parent.manifests(io)).items():
                for entry in entries:
                    summary.remove_file(entry.data_file, schema, metadata.specs()[kind])
                manifests.append(self._manifest(metadata.specs()[kind], entries))
        place = self._place(f"snap-{self.number}-0-{uuid.uuid4()}.avro")
        with write_manifest_list(
            metadata.format_version, io.new_output(place), self.number, metadata.current_snapshot_id, self._sequence, "deflate"
        ) as writer:
            writer.add_manifests(manifests)
        lying = lying or (append and _has_files_in_place(parent))
        noted = {IN_PLACE: "true"} if lying else {}
        operation = Operation.APPEND if append or parent is None else Operation.OVERWRITE
        written: dict[str, Any] = {  # by the names of the specification
            "snapshot-id": self.number,
            "parent-snapshot-id": metadata.current_snapshot_id,
            "manifest-list": place,
            "sequence-number": self._sequence,
            "summary": update_snapshot_summaries(Summary(operation, **summary.build(), **noted), parent.summary if parent else None),
            "schema-id": metadata.current_schema_id,
            **self._time,
        }
        return Snapshot(**written)

    def discard(self) -> None:
        """Remove what was written: no version has it."""
        for place in self._written:
            self._table.io.delete(place)

    def _removed(self, manifests: Iterable[ManifestFile]) -> dict[int, list[ManifestEntry]]:
        """The files that an overwrite takes out, by partition spec; whoever cleans up after an expiry goes by these entries."""
        from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestEntryStatus

        found: dict[int, list[ManifestEntry]] = {}
        for manifest in manifests:
            for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=True):
                if entry.data_file.content == DataFileContent.DATA:
                    gone = ManifestEntry.from_args(
                        status=ManifestEntryStatus.DELETED,
                        snapshot_id=self.number,
                        sequence_number=entry.sequence_number,
                        file_sequence_number=entry.file_sequence_number,
                        data_file=entry.data_file,
                    )
                    found.setdefault(manifest.partition_spec_id, []).append(gone)
        return found

    def _merged(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """What an append takes over: manifests with live files, many small ones made into one."""
        from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestEntryStatus

        live = [one for one in manifests if one.has_added_files() or one.has_existing_files()]
        spec = self._metadata.spec()
        mergeable = [one for one in live if one.content == ManifestContent.DATA and one.partition_spec_id == spec.spec_id]
        if len(mergeable) < _MANIFESTS:
            return live
        entries = [
            ManifestEntry.from_args(
                status=ManifestEntryStatus.EXISTING,
                snapshot_id=entry.snapshot_id,
                sequence_number=entry.sequence_number,
                file_sequence_number=entry.file_sequence_number,
                data_file=entry.data_file,
            )
            for manifest in mergeable
            for entry in manifest.fetch_manifest_entry(self._table.io, discard_deleted=True)
        ]
        return [self._manifest(spec, entries), *(one for one in live if one not in mergeable)]

    def _entry(self, file: DataFile) -> ManifestEntry:
        from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus

        return ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED, snapshot_id=self.number, sequence_number=None, file_sequence_number=None, data_file=file
        )

    def _manifest(self, spec: Any, entries: Sequence[ManifestEntry]) -> ManifestFile:
        from pyiceberg.manifest import write_manifest

        output = self._table.io.new_output(self._place(f"{uuid.uuid4()}-m0.avro"))
        version, schema = self._metadata.format_version, self._metadata.schema()
        with write_manifest(version, spec, schema, output, self.number, "deflate") as writer:
            for entry in entries:
                writer.add_entry(entry)
        return writer.to_manifest_file()

    def _place(self, name: str) -> str:
        place = self._table.location_provider().new_metadata_location(name)
        self._written.append(place)
        return place
