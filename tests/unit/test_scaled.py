"""Many number columns at once give what one column after the other gives, to the last bit."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from jupyter_mlp.core import scaled, steps, values

IMPUTE, SCALE, NUMBER = {"step": "impute", "value": 2.5}, {"step": "scale", "shift": 1.25, "by": 3.7}, {"step": "number"}
LEARNED = [(NUMBER,), (IMPUTE, NUMBER), (SCALE, NUMBER), (IMPUTE, SCALE, NUMBER), (IMPUTE, {**SCALE, "by": 1e-30}, NUMBER)]
KINDS = [pa.float64(), pa.float32(), pa.int32(), pa.int64(), pa.bool_(), pa.date32(), pa.timestamp("us", "UTC"), pa.decimal128(28, 3)]


def column(kind: pa.DataType, missing: bool, rows: int) -> pa.ChunkedArray:
    random = np.random.default_rng(5)
    if pa.types.is_floating(kind):
        found = random.normal(0, 1e3, rows)
        if missing:
            found[::7], found[1::11], found[2::13], found[3::17] = np.nan, np.inf, -np.inf, 3.3e38
        data = pa.array(found, pa.float64()).cast(kind)
    elif pa.types.is_boolean(kind):
        data = pa.array(random.integers(0, 2, rows).astype(bool))
    else:
        data = pa.array(random.integers(0, 20_000, rows), pa.int32()).cast(pa.int64() if kind != pa.date32() else pa.int32()).cast(kind)
    if missing:
        data = pa.array([None if at % 5 == 0 else value for at, value in enumerate(data.to_pylist())], kind)
    return pa.chunked_array([data[: rows // 3], data[rows // 3 :]])


@pytest.mark.parametrize("rows", [1, 700, 9_001])
def test_together_is_as_one_after_the_other(rows: int) -> None:
    cases = list(itertools.product(KINDS, (False, True), LEARNED))
    names = [str(at) for at in range(len(cases))]
    columns = {name: column(kind, missing, rows) for name, (kind, missing, _) in zip(names, cases, strict=True)}
    places = list(range(2 * len(cases) - 2, -1, -2))  # every other one, backwards
    found = np.full((rows, 2 * len(cases)), -1, np.float32)
    with np.errstate(over="ignore"):
        scaled.Scaled(names, [learned for *_, learned in cases], places).write(columns, found)
    for name, place, (kind, missing, learned) in zip(names, places, cases, strict=True):
        one = np.zeros((rows, 1), np.float32)
        steps.apply(learned, values.numbers(columns[name]), one)
        assert np.array_equal(found[:, place], one[:, 0]), (kind, missing, learned)
        assert (found[:, place + 1] == -1).all()


def test_what_is_more_than_scaled_does_not_fit() -> None:
    assert scaled.fits("number", (IMPUTE, SCALE, NUMBER))
    assert not scaled.fits("number", ({"step": "log"}, SCALE, NUMBER))
    assert not scaled.fits("key", (NUMBER,))
