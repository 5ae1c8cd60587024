"""Which Arrow types the lake can hold, and what the others become."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def storable(schema: pa.Schema) -> pa.Schema:
    """Return the nearest schema that the lake can hold: signed integers, microseconds, plain strings, no null type."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, _storable(column.type), True) for column in schema])


def changes(given: pa.Schema, stored: pa.Schema) -> str:
    """Return in one line which columns are of another type than was given; empty where that makes no difference to who reads them."""
    was = {column.name: column.type for column in given}
    parts = [
        f"{column.name} ({_named(was[column.name])}) as {_named(column.type)}"
        for column in stored
        if column.name in was and _plain(was[column.name]) != _plain(column.type)
    ]
    return f"stored as the nearest type that a table has: {', '.join(parts)}" if parts else ""


def _named(kind: pa.DataType) -> str:
    import pyarrow as pa

    return f"categories of {_named(kind.value_type)}" if pa.types.is_dictionary(kind) else str(kind).replace("string", "text")


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without what only says how it lies in memory, or how finely time is told: what would lose some of it is refused."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_large_binary(kind):
        return pa.binary()
    if is_.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if is_.is_date64(kind):
        return pa.date32()
    if is_.is_large_list(kind) or is_.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if is_.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if is_.is_struct(kind):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in kind])
    return kind


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
