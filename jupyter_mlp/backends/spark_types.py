"""What a table can hold of a Spark result: names made unique, types that have no place in it as text, and both said."""

from __future__ import annotations

from typing import Any


def storable(frame: Any) -> tuple[Any, list[str]]:
    """Rename and cast what a table cannot hold, and say so."""
    from pyspark.sql.connect.functions import col, lit

    notes: list[str] = []
    if not frame.columns:
        frame = frame.select(lit(None).cast("string").alias("no_column"))
        notes.append("the result has no column; an empty one stands for its rows")
    names: list[str] = []
    for position, column in enumerate(frame.schema.fields, 1):
        name = column.name or f"column_{position}"
        while name.lower() in (n.lower() for n in names):
            name += "_2"
        if name != column.name:
            notes.append(f"column {position} ({column.name or 'no name'}) is stored as {name}")
        names.append(name)
    if names != frame.columns:
        frame = frame.toDF(*names)
    for column in frame.schema.fields:
        held = _held(column.dataType)
        if held != column.dataType:
            frame = frame.withColumn(column.name, col(f"`{column.name.replace('`', '``')}`").cast(held))
            notes.append(f"{column.name} ({column.dataType.simpleString()}) is stored as {held.simpleString()}")
    return frame, notes


def _held(kind: Any) -> Any:
    """The nearest type that a table holds: plain text for nothing, intervals, variants, structs without fields and text with a collation.

    Also inside of others.
    """
    from pyspark.sql import types as t

    if isinstance(kind, t.ArrayType):
        inner = _held(kind.elementType)
        return kind if inner == kind.elementType else t.ArrayType(inner, True)  # a cast to text may give NULL
    if isinstance(kind, t.MapType):
        key, value = _held(kind.keyType), _held(kind.valueType)
        return kind if (key, value) == (kind.keyType, kind.valueType) else t.MapType(key, value, True)
    if isinstance(kind, t.StructType) and kind.fields:
        fields = [t.StructField(f.name, _held(f.dataType), f.nullable or _held(f.dataType) != f.dataType) for f in kind.fields]
        return t.StructType(fields)
    unheld = (t.StringType, t.NullType, t.DayTimeIntervalType, t.YearMonthIntervalType, t.CalendarIntervalType, t.VariantType, t.StructType)
    return t.StringType() if isinstance(kind, unheld) else kind
