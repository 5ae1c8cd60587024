"""How a table's columns may change from one version to the next: what Iceberg can read back for every old version.

a new column            old versions have none of it, older rows read as null
a column left out       overwriting drops it; old versions keep it
a wider type            int32 -> int64, float32 -> float64, decimal(9,2) -> decimal(18,2)
a narrower type         the table's stays, the values fit
any other type          refused: it would not read back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_mlp.core.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

_MAPPING = "schema.name-mapping.default"  # our files carry no field ids: columns are found by name


class _ClashError(Exception):
    """Two types that do not fit: the column's path and both."""


def evolved(table: Table, schema: pa.Schema, append: bool) -> TableMetadata:
    """Return the table's metadata with its columns as they must become to take rows of `schema`.

    Raises:
        InvalidInputError: a column cannot become what the rows have; the message names it and both types.
    """
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    now = _plain(schema_to_pyarrow(table.schema(), include_field_ids=False))
    wanted = merged(now, schema)
    gone = [] if append else [name for name in now.names if name not in schema.names]
    more = wanted != pa.schema([now.field(name) for name in wanted.names if name in now.names])
    if _MAPPING in table.properties and not gone and not more:
        return table.metadata
    change = table.transaction()  # never committed itself: it works out what the metadata become
    if _MAPPING not in table.properties:
        change.set_properties({_MAPPING: table.schema().name_mapping.model_dump_json()})
    if gone:
        with change.update_schema() as update:
            for name in gone:
                update.delete_column(name)
    if more:
        with change.update_schema() as update:
            update.union_by_name(wanted)
    return change.table_metadata


def merged(now: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Return the columns of `new`, each as wide as in both; those that only `now` has are left out.

    Raises:
        InvalidInputError: the types of a column do not fit.
    """
    import pyarrow as pa

    fields = []
    for field in _plain(new):
        kind = field.type
        if field.name in now.names:
            try:
                kind = _wider(field.name, now.field(field.name).type, kind)
            except _ClashError as clash:
                path, was, is_now = clash.args
                raise InvalidInputError(
                    f"The column {path} is {was} in the table and {is_now} in these rows.",
                    f"Cast it to {was} first, or write to another table name.",
                ) from None
        fields.append(pa.field(field.name, kind, True))
    return pa.schema(fields)


def _wider(path: str, was: pa.DataType, new: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    is_ = pa.types
    if was == new:
        return was
    for narrow, wide in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64())):
        if {was, new} == {narrow, wide}:
            return wide
    if is_.is_decimal128(was) and is_.is_decimal128(new) and was.scale == new.scale:
        return was if was.precision > new.precision else new
    if is_.is_list(was) and is_.is_list(new):
        return pa.list_(_wider(f"{path}.element", was.value_type, new.value_type))
    if is_.is_map(was) and is_.is_map(new) and was.key_type == new.key_type:
        return pa.map_(was.key_type, _wider(f"{path}.value", was.item_type, new.item_type))
    if is_.is_struct(was) and is_.is_struct(new):
        kinds = {field.name: field.type for field in was}
        for field in new:
            kinds[field.name] = _wider(f"{path}.{field.name}", kinds[field.name], field.type) if field.name in kinds else field.type
        return pa.struct([pa.field(name, kind, True) for name, kind in kinds.items()])
    raise _ClashError(path, was, new)


def _plain(schema: pa.Schema) -> pa.Schema:
    from jupyter_mlp.store.storable import storable

    return storable(schema)
