"""Values cross from kernel to kernel exactly, or not at all."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_mlp.notebook import journal
from jupyter_mlp.notebook.crossing import CannotCrossError, Encoder, decode

NOW = datetime.datetime(2026, 11, 26, 3, 4, 5, 6, tzinfo=datetime.UTC)


def crossed(value: Any, folder: Path) -> Any:
    return decode(json.loads(json.dumps(Encoder(folder).encode(value))), folder)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 2**80, 0.1, -0.0, math.inf, "ä\ud800", b"\0", 1j, (1, [2, {3: {"a": {4}}}]), frozenset({1}), range(1, 9, 2),
        NOW, NOW.date(), NOW.replace(tzinfo=None), datetime.timedelta(1, 2, 3), decimal.Decimal("1.10"), Path("a/b"),
        np.float32(0.1), math.sqrt, np.datetime64("2026-11-26"), math,
    ],
)  # fmt: skip
def test_plain_values_come_back(tmp_path: Path, value: Any) -> None:
    back = crossed(value, tmp_path)
    assert back == value and type(back) is type(value) and repr(back) == repr(value)


def test_arrays_frames_and_generators_come_back(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)[:, ::2].copy()
    np.testing.assert_array_equal(crossed(array, tmp_path), array)
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", None], "c": pd.Categorical(["u", "v"])}, index=pd.Index([5, 7], name="id"))
    pd.testing.assert_frame_equal(crossed(frame, tmp_path), frame)
    pd.testing.assert_series_equal(crossed(frame.x, tmp_path), frame.x)
    generator = np.random.default_rng(3)
    generator.random(5)
    assert crossed(generator, tmp_path).random() == generator.random()


def test_what_would_not_be_the_same_is_refused(tmp_path: Path) -> None:
    class Own:
        pass

    shared: list[int] = []
    mixed = pd.DataFrame({"x": [[1], "a"]})
    loop: list[Any] = []
    loop.append(loop)
    for value in (Own(), (n for n in ()), [shared, shared], loop, mixed, np.array([Own()]), open(__file__), lambda: 0):  # noqa: SIM115
        with pytest.raises(CannotCrossError):
            Encoder(tmp_path).encode(value)


def test_secrets_are_not_written(tmp_path: Path) -> None:
    for value in ({"api_key": "abc"}, [{"a": {"db_password": "x"}}], ["hunter2hunter2"]):
        with pytest.raises(CannotCrossError, match="secret"):
            Encoder(tmp_path, frozenset({"hunter2hunter2"})).encode(value)
    Encoder(tmp_path).encode({"passes": 3, "tokens": [1, 2]})
    assert not list(tmp_path.iterdir())


def test_a_view_is_known_as_one(tmp_path: Path) -> None:
    whole = np.zeros(10)
    one, two = Encoder(tmp_path), Encoder(tmp_path)
    one.encode(whole)
    two.encode(whole[2:])
    assert one.things & two.things


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    stored = Encoder(tmp_path).encode(np.zeros(10))
    next(tmp_path.iterdir()).write_bytes(b"another")
    with pytest.raises(CannotCrossError, match="changed on disk"):
        decode(stored, tmp_path)


def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    written = journal.Journal(path)
    written.add({"key": "a", "cell": 1})
    written.close()
    path.write_bytes(path.read_bytes() + b'\n{"key": "b", "ce')
    more = journal.Journal(path)
    more.add({"key": "c", "cell": 3})
    more.close()
    assert list(journal.read(path)) == ["a", "c"]
