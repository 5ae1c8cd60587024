"""Rows of a request that came as Arrow columns: checked against a model's recipe column by column, never made into dictionaries.

What fits is what fits in JSON, but that a number may be NaN for null, as in datasets, and that times have Arrow's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import values
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe import Input, Recipe
from jupyter_mlp.serving.requests_log import ROWS_KEPT

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_WORDS = 16 * 2**20  # bytes of a column whose dictionary is written out
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # since 1970, of the years 1 to 9999
_DAY_US = 86_400_000_000
_NOTHING = {"number": "float64", "key": "string", "bytes": "binary"}  # what a column of nulls only is read as


class Columns:
    """Rows as Arrow columns. A slice gives rows as JSON would have brought them, of the first thousand, for the log.

    Args:
        columns: by their names, equally long, valid as Arrow understands it.
    """

    def __init__(self, columns: Mapping[str, pa.ChunkedArray], count: int) -> None:
        self._columns = dict(columns)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: slice) -> list[dict[str, Any]]:
        return self._first[place]

    def fitting(self, recipe: Recipe) -> dict[str, pa.ChunkedArray]:
        """Return the columns as a recipe reads them.

        Raises:
            InvalidInputError: a column is missing, unknown, of the wrong type or out of range; the message names it.
        """
        recipe.check_fields(0, self._columns)
        for one in recipe.inputs:
            self._columns[one.column] = _plain(one.column, self._columns[one.column])
        found = {one.column: _fitting(one, self._columns[one.column]) for one in recipe.inputs}
        len(self._first)  # now, in a thread, and not where the log is written
        return found

    @cached_property
    def _first(self) -> list[dict[str, Any]]:
        read = [[values.json_ready(value) for value in column.slice(0, ROWS_KEPT).to_pylist()] for column in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*read, strict=True)]


def _plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without its dictionary, and times in a unit that Python knows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        if column.type.value_type in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
            sizes = (pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() or 0 for part in column.chunks)
            if sum(sizes) > _MOST_WORDS:
                raise InvalidInputError(f"instances.{name} is larger than 16 MiB without its dictionary.", "Send fewer rows per request.")
        column = pa.chunked_array([part.dictionary_decode() for part in column.chunks], column.type.value_type)
    if pa.types.is_timestamp(column.type):
        wanted = pa.timestamp("us", "UTC" if column.type.tz else None)
        try:
            found = pc.cast(column, options=pc.CastOptions(wanted, allow_time_truncate=True))
        except pa.ArrowInvalid:
            raise InvalidInputError(f"instances.{name} is out of range.", "Give times of the years 1 to 9999.") from None
        return _in_range(name, found, pa.int64(), _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1)
    if pa.types.is_date(column.type):
        return _in_range(name, column.cast(pa.date32(), safe=False), pa.int32(), _FIRST_DAY, _LAST_DAY)
    return column


def _in_range(name: str, column: pa.ChunkedArray, whole: pa.DataType, least: int, most: int) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    numbers = column.cast(whole)
    _refuse(name, pc.or_(pc.less(numbers, least), pc.greater(numbers, most)), "is out of range.", "Give times of the years 1 to 9999.")
    return column


def _fitting(one: Input, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as its input reads it, or refuse it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hint = f"Give {values.WANTS[one.kind]}, or null."
    if pa.types.is_null(column.type):
        return column.cast(getattr(pa, _NOTHING[one.form])())
    if not values.same_kind(pa.field(one.column, column.type), one.kind):
        raise InvalidInputError(f"instances.{one.column} is {column.type}, not {values.WANTS[one.kind]}.", hint)
    if not pa.types.is_floating(column.type):
        return column
    numbers = column.cast(pa.float64())
    _refuse(one.column, pc.greater(pc.abs(numbers), values.LARGEST), "is out of range.", hint)
    if one.form == "key":  # 3 is a category, 3.5 is none, and NaN is missing
        numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
        out = pc.or_(pc.not_equal(pc.floor(numbers), numbers), pc.greater(pc.abs(numbers), 2.0**53))
        _refuse(one.column, out, "is no whole number.", "Give a whole number, or null.")
        return numbers.cast(pa.int64())
    return column


def _refuse(name: str, wrong: pa.ChunkedArray, said: str, hint: str) -> None:
    """Refuse the first row that is wrong."""
    import pyarrow.compute as pc

    at = pc.index(wrong, True).as_py()
    if at >= 0:
        raise InvalidInputError(f"instances[{at}].{name} {said}", hint)
