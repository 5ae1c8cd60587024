"""Which Arrow types the lake can hold, and what the others become."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def storable(schema: pa.Schema) -> pa.Schema:
    """Return the nearest schema that the lake can hold: signed integers, microseconds, plain strings, no null type."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, _storable(column.type), True) for column in schema])


def _storable(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    is_ = pa.types
    if is_.is_dictionary(kind):
        return _storable(kind.value_type)
    if is_.is_null(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_large_binary(kind):
        return pa.binary()
    if is_.is_uint32(kind) or is_.is_uint64(kind) or is_.is_duration(kind):
        return pa.int64()
    if is_.is_integer(kind) and not is_.is_int64(kind):
        return pa.int32()
    if is_.is_float16(kind):
        return pa.float32()
    if is_.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if is_.is_date64(kind):
        return pa.date32()
    if is_.is_large_list(kind) or is_.is_list(kind):
        return pa.list_(_storable(kind.value_type))
    if is_.is_map(kind):
        return pa.map_(_storable(kind.key_type), _storable(kind.item_type))
    if is_.is_struct(kind):
        return pa.struct([pa.field(f.name, _storable(f.type)) for f in kind])
    return kind
