"""Values as steps read them, from Arrow columns and from requests alike: numbers (missing is NaN) and keys (missing is null).

    kind       comes as                  as a number        as a key
    number     float, decimal            itself             -
    whole      integer                   itself, rounded    its digits
    flag       boolean                   0 or 1             true, false
    text       string                    -                  itself
    date       date                      seconds since 1970 2013-01-31
    time       timestamp without a zone  seconds since 1970, as if it were UTC
    instant    timestamp with a zone     seconds since 1970
    bytes      binary                    -                  -     (base64 in a request)

What is no finite number of float32 (null, NaN, an infinity, beyond 3e38) is missing.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TIMES = ("date", "time", "instant")
FORMS = {
    "number": ("number",),
    "whole": ("number", "key"),
    "flag": ("number", "key"),
    "text": ("key",),
    "date": ("number", "key"),
    "time": ("number",),
    "instant": ("number",),
    "bytes": ("bytes",),
}
HOLDS = {
    "number": "numbers with a fraction",
    "whole": "whole numbers",
    "flag": "true and false",
    "text": "text",
    "date": "dates",
    "time": "times",
    "instant": "times",
    "bytes": "bytes",
}
WANTS = {
    "number": "a finite number",
    "whole": "a finite number",
    "flag": "true or false",
    "text": "text",
    "date": "a date like 2013-01-31",
    "time": "a time like 2013-01-31T08:00:00",
    "instant": "a time like 2013-01-31T08:00:00-05:00",
    "bytes": "the bytes of a picture as base64 text",
}
LARGEST = 3e38  # that float32 holds, and whose square a float64 holds


def kind_of(column: pa.Field) -> str:
    """Return the kind of a column.

    Raises:
        InvalidInputError: no step can make numbers of its type.
    """
    import pyarrow.types as t

    kind = column.type.value_type if t.is_dictionary(column.type) else column.type
    if t.is_timestamp(kind):
        return "instant" if kind.tz else "time"
    for name, tests in _TESTS.items():
        if any(getattr(t, f"is_{test}")(kind) for test in tests):
            return name
    raise InvalidInputError(
        f"The column {column.name} holds {column.type}, which cannot become numbers.",
        f"Leave {column.name} out of the query or the recipe, or cast it.",
    )


def same_kind(one: pa.Field, kind: str) -> bool:
    """Whether a column can be read as one of `kind` was: whole and other numbers pass for each other."""
    found = kind_of(one)
    return found == kind or {found, kind} == {"whole", "number"}


_TESTS = {
    "whole": ("integer",),
    "number": ("floating", "decimal"),
    "flag": ("boolean",),
    "text": ("string", "large_string", "string_view"),
    "date": ("date",),
    "bytes": ("binary", "large_binary", "fixed_size_binary"),
}


def numbers(column: Any) -> np.ndarray:
    """Return an Arrow column as float64; times are seconds since 1970; what is missing is NaN."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        whole = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return _float64(whole) / 1e6
    if pa.types.is_decimal(kind):
        column = column.cast(pa.string()).cast(pa.float64())  # through text: Arrow's own way may miss the nearest float
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    found = _float64(column)
    known = np.abs(found) <= LARGEST
    return found if known.all() else np.where(known, found, np.nan)


def plain_numbers(column: Any) -> np.ndarray:
    """Return an Arrow column as numbers of any width, not copied where it need not be; what is missing or out of range may be so."""
    import pyarrow as pa

    if pa.types.is_floating(column.type) and not column.null_count:
        found: np.ndarray = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
        return found
    return numbers(column)


def keys(column: Any) -> Any:
    """Return an Arrow column as one string array."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.cast(pa.string())


def blobs(column: Any) -> list[bytes | None]:
    """Return a binary column as a list."""
    found: list[bytes | None] = column.to_pylist()
    return found


def read(form: str, column: Any) -> Any:
    """Return an Arrow column in the form that its first step reads: number, key or bytes."""
    return {"number": numbers, "key": keys, "bytes": blobs}[form](column)


def gathered(form: str, values: Sequence[Any]) -> Any:
    """Return values that `reader` made, one a row, as `read` returns a column."""
    import numpy as np
    import pyarrow as pa

    if form == "number":
        return np.array(values, dtype=np.float64)
    return pa.array(values, pa.string()) if form == "key" else list(values)


def reader(kind: str, form: str) -> Callable[[Any], Any]:
    """Return what turns one value of a request into a number (NaN where missing), a key or bytes (None where missing).

    The function raises ValueError for what does not fit the kind, OverflowError for what is out of range.
    """
    if form == "number":
        return {"number": _number, "whole": _number, "flag": _flag}.get(kind, _seconds)
    if form == "bytes":
        return _blob
    return {"whole": _digits, "flag": _word, "date": _day}.get(kind, _text)


def json_ready(value: Any) -> Any:
    """Return a value as a request carries it: text for times, base64 for bytes, null for what is missing, plain Python for the rest."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if type(value) in (int, float) and not -LARGEST <= value <= LARGEST:
        return None
    return value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if type(value) in (int, float) and -LARGEST <= value <= LARGEST:
        return float(value)
    raise ValueError  # too large too: who asks is told, while a table's is missing


def _flag(value: Any) -> float:
    if value is None:
        return math.nan
    if value is True or value is False:
        return float(value)
    raise ValueError


def _seconds(value: Any) -> float:
    if value is None:
        return math.nan
    if type(value) is not str:
        raise ValueError
    moment = datetime.datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _digits(value: Any) -> str | None:
    if value is None:
        return None
    number = _number(value)
    if type(value) is int:  # no float on the way to the digits: it holds not every whole number beyond 2^53
        return str(value)
    if not number.is_integer():
        raise ValueError
    return str(int(number))


def _word(value: Any) -> str | None:
    number = _flag(value)
    return None if number != number else "true" if number else "false"


def _day(value: Any) -> str | None:
    seconds = _seconds(value)
    return None if seconds != seconds else str(datetime.datetime.fromisoformat(value).date())


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    raise ValueError


def _blob(value: Any) -> bytes | None:
    if value is None:
        return None
    if type(value) is not str:
        raise ValueError
    return base64.b64decode(value, validate=True)


def _float64(column: Any) -> np.ndarray:
    import numpy as np
    import pyarrow as pa

    if column.null_count:
        column = column.cast(pa.float64(), safe=False)
    found = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.float64)
