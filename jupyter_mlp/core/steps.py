"""What each step does to a column. `online.py` does the same to one value; a test compares the two.

    number -> number    impute mean|median|VALUE   log   scale [standard|min-max]
    number -> index     bucket N | bucket EDGE EDGE ...
    number -> features  cyclic PERIOD   and for times  cyclic hour|day|week|year [ZONE]   time [ZONE]
    key -> key          impute most-frequent|TEXT
    key -> index        vocabulary N   hash N
    index -> features   one-hot   embedding            (one-hot N, embedding N of a key: vocabulary N before it)
    key -> features     tokens LENGTH [BUCKETS]
    bytes -> features   image HEIGHTxWIDTH [rgb|gray]

An index is 0 for what is missing or unknown. A number that is missing at the end is 0: the mean, once it is scaled.
A learned step is plain data: {"step": "scale", "shift": 12.6, "by": 40.2}.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.clock import on_the_wall
from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError
from jupyter_mlp.core.values import LARGEST

if TYPE_CHECKING:
    import numpy as np

Step = Mapping[str, Any]

# word -> (what it reads, what it gives)
WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "impute": (("number", "key"), "same"),
    "log": (("number",), "number"),
    "scale": (("number",), "number"),
    "bucket": (("number",), "index"),
    "cyclic": (("number",), "features"),
    "time": (("number",), "features"),
    "vocabulary": (("key",), "index"),
    "hash": (("key",), "index"),
    "one-hot": (("key", "index"), "features"),
    "embedding": (("key", "index"), "features"),
    "tokens": (("key",), "features"),
    "image": (("bytes",), "features"),
    "target": ((), "alone"),
    "drop": ((), "alone"),
    "default": ((), "alone"),
}
ALONE = ("target", "drop", "default")
FINAL = ("number", "one-hot", "embedding", "cyclic", "time", "tokens", "image")
DAY_S, YEAR_S = 86_400.0, 31_556_952.0
UNITS = {"hour": 3_600.0, "day": DAY_S, "week": 7 * DAY_S, "year": YEAR_S}
TIME_PARTS = ("date", "hour_sin", "hour_cos", "day_sin", "day_cos")
_WORD = re.compile(r"\w+")


def names(column: str, steps: Sequence[Step]) -> list[str]:
    """Return the names of the features that a column becomes."""
    last = steps[-1]
    if last["step"] == "one-hot":
        return [f"{column}={value}" for value in _labels(steps, last["size"])]
    if last["step"] == "time":
        return [f"{column}.{part}" for part in TIME_PARTS]
    if last["step"] == "cyclic":
        return [f"{column}.{last.get('unit') or 'cycle'}_{part}" for part in ("sin", "cos")]
    if last["step"] in ("tokens", "image"):
        return [f"{column}[{at}]" for at in range(width(steps))]
    return [column]


def width(steps: Sequence[Step]) -> int:
    """Return how many features a column becomes."""
    last = steps[-1]
    if last["step"] == "one-hot":
        return int(last["size"]) - 1
    if last["step"] == "image":
        return int(last["height"] * last["width"] * last["channels"])
    return {"time": 5, "cyclic": 2, "tokens": int(last.get("length", 0))}.get(last["step"], 1)


def cardinality(steps: Sequence[Step]) -> int:
    """Return how many values the column's indices take, 0 among them; 0 where it has no indices."""
    last = steps[-1]
    return int(last["size"]) if last["step"] in ("embedding", "tokens") else 0


def apply(steps: Sequence[Step], values: Any, out: np.ndarray) -> None:
    """Write the features of a column into `out` [rows, width], which holds zeros."""
    for step in steps[:-1]:
        values = _CHANGE[step["step"]](step, values)
    _WRITE[steps[-1]["step"]](steps[-1], values, out)


def bucket_of(key: str, size: int) -> int:
    """Return the place of a key among `size`, from 1: the same on every machine, learned from nothing."""
    return zlib.crc32(key.encode()) % size + 1


def token_ids(text: str | None, length: int, size: int) -> list[int]:
    """Return the first `length` words of a text as numbers from 1 below `size`."""
    return [bucket_of(word, size - 1) for word in _WORD.findall((text or "").lower())[:length]]


def pixels(data: bytes, step: Step) -> np.ndarray:
    """Return a picture as float32 [height * width * channels] from 0 to 1.

    Raises:
        InvalidInputError: the bytes are no picture.
    """
    import numpy as np

    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("Pillow is not installed, which decodes pictures.", "pip install pillow") from error
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB" if step["channels"] == 3 else "L").resize(
                (step["width"], step["height"]), Image.Resampling.BILINEAR
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all four for bad bytes
        raise InvalidInputError(f"The picture cannot be decoded: {error}", "Give the bytes of a PNG or JPEG file.") from error
    return (np.asarray(picture, dtype=np.float32) / np.float32(255)).ravel()


def _labels(steps: Sequence[Step], size: int) -> list[str]:
    before = steps[-2]
    if before["step"] == "vocabulary":
        return list(before["values"])
    if before["step"] == "bucket" and before["edges"]:
        edges = [f"{edge:.6g}" for edge in before["edges"]]
        return [f"<{edges[0]}", *(f"{low}..{high}" for low, high in pairwise(edges)), f">={edges[-1]}"]
    return [str(at) for at in range(1, size)]


def _impute(step: Step, values: Any) -> Any:
    import numpy as np

    if isinstance(values, np.ndarray):
        missing = np.isnan(values)
        return np.where(missing, step["value"], values) if missing.any() else values
    return values.fill_null(step["value"])


def _log(_step: Step, values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(np.copysign(np.log1p(np.abs(values)), values))


def _scale(step: Step, values: np.ndarray) -> np.ndarray:
    return (values - step["shift"]) / step["by"]


def _bucket(step: Step, values: np.ndarray) -> np.ndarray:
    import numpy as np

    found = np.searchsorted(np.array(step["edges"], dtype=np.float64), values, side="right") + 1
    return np.where(np.isnan(values), 0, found)


def _vocabulary(step: Step, values: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(values, pa.array(step["values"], pa.string()))
    return _whole(found.fill_null(-1)) + 1


def _hash(step: Step, values: Any) -> np.ndarray:
    import numpy as np

    coded = values.dictionary_encode()
    places = np.array([bucket_of(key, step["size"] - 1) for key in coded.dictionary.to_pylist()] + [0])
    return np.asarray(places[_whole(coded.indices.fill_null(len(places) - 1))])


def _write_number(_step: Step, values: np.ndarray, out: np.ndarray) -> None:
    import numpy as np

    if len(values) and values.min() >= -LARGEST and values.max() <= LARGEST:  # which is not so where one is missing
        out[:, 0] = values
    else:
        out[:, 0] = np.clip(np.where(np.isnan(values), 0.0, values), -LARGEST, LARGEST)


def _write_one_hot(_step: Step, values: np.ndarray, out: np.ndarray) -> None:
    import numpy as np

    known = np.flatnonzero(values)
    out[known, values[known] - 1] = 1.0


def _write_embedding(_step: Step, values: np.ndarray, out: np.ndarray) -> None:
    out[:, 0] = values


def _write_cyclic(step: Step, values: np.ndarray, out: np.ndarray) -> None:
    import numpy as np

    angle = on_the_wall(values, step["zone"]) % step["period"] / step["period"] * 2 * np.pi
    known = np.isfinite(values)
    out[:, 0], out[:, 1] = np.where(known, np.sin(angle), 0.0), np.where(known, np.cos(angle), 0.0)


def _write_time(step: Step, values: np.ndarray, out: np.ndarray) -> None:

    _write_number(step, _scale(step, values), out)
    for at, period in ((1, DAY_S), (3, YEAR_S)):
        _write_cyclic({"zone": step["zone"], "period": period}, values, out[:, at : at + 2])


def _write_tokens(step: Step, values: Any, out: np.ndarray) -> None:
    import numpy as np

    coded = values.dictionary_encode()
    table = np.zeros((len(coded.dictionary) + 1, step["length"]), dtype=np.float32)
    for row, text in enumerate(coded.dictionary.to_pylist()):
        found = token_ids(text, step["length"], step["size"])
        table[row, : len(found)] = found
    out[:] = table[_whole(coded.indices.fill_null(len(table) - 1))]


def _write_image(step: Step, values: Sequence[bytes | None], out: np.ndarray) -> None:
    for row, data in enumerate(values):
        if data is not None:
            out[row] = pixels(data, step)


def _whole(column: Any) -> np.ndarray:
    found: np.ndarray = column.to_numpy(zero_copy_only=False)
    return found


_CHANGE: dict[str, Callable[[Step, Any], Any]] = {
    "impute": _impute,
    "log": _log,
    "scale": _scale,
    "bucket": _bucket,
    "vocabulary": _vocabulary,
    "hash": _hash,
}
_WRITE: dict[str, Callable[[Step, Any, Any], None]] = {
    "number": _write_number,
    "one-hot": _write_one_hot,
    "embedding": _write_embedding,
    "cyclic": _write_cyclic,
    "time": _write_time,
    "tokens": _write_tokens,
    "image": _write_image,
}
