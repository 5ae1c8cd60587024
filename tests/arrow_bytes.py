"""Arrow streams as clients write them, and as nobody should: what tests and proofs send to an endpoint."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import pyarrow as pa

KIND = "application/vnd.apache.arrow.stream"


def stream(table: pa.Table, compression: str | None = None, rows: int | None = None) -> bytes:
    """A table as a stream, of batches of at most `rows` rows."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def table(body: bytes) -> pa.Table:
    """A stream as a table."""
    return pa.ipc.open_stream(body).read_all()


def broken(good: bytes, chooser: random.Random) -> bytes:
    """The stream with something wrong: bits turned, cut off, lengths that are huge, zero or negative, bytes gone or doubled."""
    place = chooser.randrange(len(good))
    kinds: list[Any] = [
        lambda: _turned(good, chooser, 1),
        lambda: _turned(good, chooser, 8),
        lambda: good[:place],
        lambda: _over(good, place - place % 4, struct.pack("<i", chooser.choice([-1, 0, 2**31 - 1, -(2**31), 1, 255, 65_536]))),
        lambda: _over(good, place - place % 8, struct.pack("<q", chooser.choice([-1, 2**62, 2**63 - 1, -(2**63), 2**40, 2**31, 17]))),
        lambda: good[:place] + good[place + chooser.randrange(1, 64) :],
        lambda: good[:place] + good[max(0, place - chooser.randrange(1, 256)) :],
        lambda: chooser.randbytes(chooser.randrange(200)),
    ]
    return bytes(chooser.choice(kinds)())


def _turned(good: bytes, chooser: random.Random, bits: int) -> bytes:
    found = bytearray(good)
    for _ in range(bits):
        found[chooser.randrange(len(found))] ^= 1 << chooser.randrange(8)
    return bytes(found)


def _over(good: bytes, place: int, data: bytes) -> bytes:
    return good[:place] + data + good[place + len(data) :]
