"""Identity of rows by content: the same rows have the same one, whatever their order and however they are split into files.

Every row becomes a 64-bit number that mixes its cells; the sum of these numbers over all rows, in two mixes, is the identity.
It is not made against somebody who wants two data sets to look alike: it tells runs apart, the files' own hashes tell tampering.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_NULL, _NAN = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_BATCH = 131_072


def of_files(paths: Sequence[str]) -> str:
    """Return the identity of all rows of some Parquet files, as text: `rows:<count>:<32 hexadecimal digits>`."""
    import numpy as np
    import pyarrow.parquet as pq

    rows, sums = 0, [0, 0]
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
            row = _rows(batch)
            rows += len(row)
            for which, salt in enumerate((1, 2)):
                sums[which] = (sums[which] + int(_mix(row + np.uint64(salt)).sum(dtype=np.uint64))) % 2**64
    return f"rows:{rows}:{sums[0]:016x}{sums[1]:016x}"


def _rows(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    import numpy as np

    found = np.zeros(batch.num_rows, np.uint64)
    for place, column in enumerate(batch.columns):
        cells = _cells(column)
        cells = (cells ^ (cells >> np.uint64(32))) * np.uint64(_hashed(str(place).encode()) | 1)  # odd, so that no change is lost
        found = (found ^ (found >> np.uint64(29))) + cells
    return found


def _cells(column: Any) -> NDArray[np.uint64]:
    """Every cell as a number; equal cells have equal ones."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    is_ = pa.types
    if is_.is_floating(kind):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0  # which makes -0.0 a 0.0
        bits = values.view(np.uint64).copy()
        bits[np.isnan(values)] = _NAN
    elif is_.is_boolean(kind) or is_.is_integer(kind):
        bits = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    elif is_.is_date32(kind) or is_.is_time32(kind):
        bits = column.view(pa.int32()).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    elif is_.is_timestamp(kind) or is_.is_time64(kind) or is_.is_date64(kind) or is_.is_duration(kind):
        bits = column.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        bits = _texts(column)
    if column.null_count:
        bits = np.where(column.is_null().to_numpy(zero_copy_only=False), np.uint64(_NULL), bits)
    return bits


def _texts(column: Any) -> NDArray[np.uint64]:
    """Texts, bytes, decimals and nested values: each different one is hashed once."""
    import numpy as np
    import pyarrow as pa

    if column.type not in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return np.array([_hashed(repr(value).encode()) for value in column.to_pylist()], np.uint64)
    coded = column.dictionary_encode()
    words = coded.dictionary.to_pylist()
    hashes = np.array([_hashed(w if isinstance(w, bytes) else w.encode("utf-8", "surrogatepass")) for w in words] or [0], np.uint64)
    found: NDArray[np.uint64] = hashes[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return found


def _hashed(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, https://prng.di.unimi.it/splitmix64.c: every bit of a value moves every bit of the result."""
    import numpy as np

    mixed = values + np.uint64(_NULL)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_NAN)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found
