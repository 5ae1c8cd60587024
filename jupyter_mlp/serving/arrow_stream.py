"""Requests and answers as Arrow streams (`application/vnd.apache.arrow.stream`): record batches with the model's columns.

`key` and `id` of a request, and `model` and `id` of an answer, are metadata of the schema. Everything here runs in a thread: to
read many rows, and to import Arrow, takes longer than other requests should wait. Streams are as hostile as any body: types are
looked at before data, lengths before values, and nothing is touched that Arrow has not validated whole.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_mlp.core import values
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.serving import arrow
from jupyter_mlp.serving.columns import Columns
from jupyter_mlp.serving.predictor import Prediction
from jupyter_mlp.serving.protocols import Refusal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CONTENT_TYPE = b"application/vnd.apache.arrow.stream"
MOST_ROWS = 2**20  # of one request; a column of nulls has any number of them in no bytes
_MOST_BYTES = 2 * 16 * 2**20  # of all columns; several may lie in the same bytes of a body
_OLD_WORD = b"ARROW:experimental_compression"  # how Arrow said it before the format had a field for it, and still reads it
_DICTIONARY, _RECORDS = 2, 3  # kinds of messages
_FORM = "Send a stream of record batches, as pyarrow.ipc.new_stream writes it."


@dataclass(frozen=True)
class AskedColumns:
    """A request that came as columns; see protocols.Asked."""

    instances: Columns
    key: str | None = None
    id: str | None = None
    keys: None = None


def forms(headers: Sequence[tuple[bytes, bytes]]) -> tuple[bool, bool]:
    """Return whether a request comes as a stream, and whether its answer should be one."""
    given = wanted = False
    for name, value in headers:
        if name == b"content-type":
            given = value.partition(b";")[0].strip().lower() == CONTENT_TYPE
        elif name == b"accept":
            wanted = any(_wants(part) for part in value.lower().split(b","))
    return given, wanted


def read(body: bytes) -> AskedColumns:
    """Read a request.

    Raises:
        Refusal: 400, it is no valid stream; 413, it is too large; 422, it has no rows, or a column of a type that no model reads.
    """
    arrow.keep_from_pandas()
    import pyarrow as pa
    import pyarrow.compute

    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            told = stream.schema.metadata or {}
            key, name = (told[word].decode() if word in told else None for word in (b"key", b"id"))
            _check_schema(stream.schema)
            batches = _batches(stream)
            table = pa.Table.from_batches(batches, stream.schema)
    except (pa.ArrowException, OSError, ValueError, EOFError, MemoryError, IndexError, struct.error) as error:
        raise Refusal(400, f"The body is no valid Arrow stream: {str(error)[:200]}", "body", _FORM) from None
    if not table.num_rows:
        raise Refusal(422, "The stream has no rows.", "instances", _FORM)
    table = table.combine_chunks()
    return AskedColumns(Columns(dict(zip(table.column_names, table.columns, strict=True)), table.num_rows), key, name)


def write(found: Prediction, model: str, request_id: str) -> bytes:
    """Return an answer: the column predictions, and for classifiers probabilities."""
    arrow.keep_from_pandas()
    import pyarrow as pa

    labels = found.probabilities is not None
    columns = {"predictions": pa.array(found.values) if labels else _numbers(found.scores)}
    if found.probabilities is not None:
        columns["probabilities"] = _numbers(found.probabilities)
    table = pa.table(columns, metadata={"model": model, "id": request_id})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _wants(part: bytes) -> bool:
    kind, *parameters = (word.strip() for word in part.split(b";"))
    return kind == CONTENT_TYPE and not any(word in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000") for word in parameters)


def _numbers(found: np.ndarray) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(found, np.float64).ravel())
    return flat if found.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, found.shape[1])


def _check_schema(schema: pa.Schema) -> None:
    import pyarrow as pa

    names = set()
    for place, field in enumerate(schema):
        if field.name in names:
            raise Refusal(422, f"The column {field.name[:60]} is there twice.", f"instances.{field.name[:60]}", "Send it once.")
        names.add(field.name)
        views = pa.types.is_string_view(field.type) or pa.types.is_binary_view(field.type)
        try:
            if not pa.types.is_null(field.type):
                values.kind_of(field)
        except InvalidInputError:
            views = True
        if views:
            said = f"Column {place}, {field.name[:60]}, is {str(field.type)[:60]}, which no model reads."
            raise Refusal(422, said, f"instances.{field.name[:60]}", "Cast it to numbers, booleans, strings, dates or timestamps.")


def _batches(stream: pa.RecordBatchStreamReader) -> list[pa.RecordBatch]:
    """Return all record batches, each validated whole."""
    found, rows, size = [], 0, 0
    for batch in stream:
        rows += batch.num_rows
        if rows > MOST_ROWS:
            raise Refusal(413, f"The stream has more than {MOST_ROWS:,} rows.", "body", "Send fewer rows per request.")
        batch.validate(full=True)
        size += batch.nbytes
        if size > _MOST_BYTES:
            raise Refusal(413, f"The columns are larger than {_MOST_BYTES // 2**20} MiB.", "body", "Send fewer rows per request.")
        found.append(batch)
    return found


def _refuse_compressed(body: bytes) -> None:
    """Refuse a stream with compressed batches, which a few bytes may blow up, and one that breaks off before its end marker."""
    import pyarrow as pa

    source = pa.BufferReader(body)
    reader = pa.ipc.MessageReader.open_stream(source)
    at = 0
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            if source.tell() == at:
                raise ValueError("it breaks off before its end marker") from None
            return
        if _is_compressed(message.metadata.to_pybytes()):
            raise Refusal(422, "Compressed record batches are not read.", "body", "Write the stream without compression.")
        at = source.tell()


def _is_compressed(message: bytes) -> bool:
    """Whether a message says that its body is compressed: pyarrow does not tell, so its flatbuffer is read, which Arrow has verified."""
    if _OLD_WORD in message:
        return True
    (root,) = struct.unpack_from("<I", message)
    kind = _at(message, root, 1)
    if kind is None or message[kind] not in (_DICTIONARY, _RECORDS):
        return False
    records = _table(message, root, 2)
    if message[kind] == _DICTIONARY:
        records = _table(message, records, 1)
    return _at(message, records, 3) is not None


def _table(message: bytes, table: int, field: int) -> int:
    at = _at(message, table, field)
    if at is None:
        raise ValueError("a message has no body")
    return at + int(struct.unpack_from("<I", message, at)[0])


def _at(message: bytes, table: int, field: int) -> int | None:
    """Return where a field of a flatbuffer's table is; None where the table has none."""
    names: int = table - struct.unpack_from("<i", message, table)[0]
    (size,) = struct.unpack_from("<H", message, names)
    entry = 4 + 2 * field
    offset: int = struct.unpack_from("<H", message, names + entry)[0] if entry < size else 0
    return table + offset if offset else None
