"""Values that cross from one kernel to the next, exactly: as JSON, with arrays and tables in files beside it; never a pickle.

What cannot be given back as it was (a fitted model, an open file, two names for one list) is refused, with the reason: the cells
that need it stay in one step with the one that made it.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import importlib
import io
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

_PLAIN = (type(None), bool, int, float, str)  # floats included: JSON in Python writes every one of them back to the bit
_TEXTS: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: (lambda value: base64.b64encode(value).decode(), base64.b64decode),
    complex: (repr, complex),
    datetime.date: (lambda value: value.isoformat(), datetime.date.fromisoformat),
    decimal.Decimal: (str, decimal.Decimal),
    type(pathlib.Path()): (str, pathlib.Path),
}
_NAMED = {kind.__name__: kind for kind in _TEXTS}
_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_DEPTH = 100
SECRET = "it may be a secret, which is written nowhere"
SECRET_NAME = re.compile(r"(?i)pass(word|wd)|secret|token|api_?key|access_?key|private_?key|credential")


class CannotCrossError(Exception):
    """A value that the next kernel could not have as it is here; its text says why."""


class Encoder:
    """Writes one value. `things`: identities of all that could be changed through another name too.

    Args:
        secrets: texts that are not written, whatever they are called.
    """

    def __init__(self, folder: pathlib.Path, secrets: frozenset[str] = frozenset()) -> None:
        self.folder, self.secrets = folder, secrets
        self.things: set[int] = set()

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return the value as JSON; arrays and tables go into files.

        Raises:
            CannotCrossError: it cannot be written down so that it comes back as it is.
        """
        kind = type(value)
        if kind in _PLAIN:
            if value in self.secrets:
                raise CannotCrossError(SECRET)
            return value
        if depth > _DEPTH:
            raise CannotCrossError("it is nested too deeply")
        if kind in _TEXTS:
            return {"t": kind.__name__, "v": _TEXTS[kind][0](value)}
        if kind.__name__ in _CONTAINERS and _CONTAINERS[kind.__name__] is kind:
            self._thing(value, kind in (list, set))
            return {"t": kind.__name__, "v": [self.encode(one, depth + 1) for one in value]}
        if kind is dict:
            self._thing(value, True)
            if any(type(key) is str and SECRET_NAME.search(key) and type(one) is str for key, one in value.items()):
                raise CannotCrossError(SECRET)
            return {"t": "dict", "v": [[self.encode(key, depth + 1), self.encode(one, depth + 1)] for key, one in value.items()]}
        if kind is range:
            return {"t": "range", "v": [value.start, value.stop, value.step]}
        if kind is datetime.timedelta:
            return {"t": "timedelta", "v": [value.days, value.seconds, value.microseconds]}
        if kind is datetime.datetime and value.tzinfo in (None, datetime.UTC):
            return {"t": "datetime", "v": [value.isoformat(), value.tzinfo is not None]}
        if isinstance(value, types.ModuleType):
            return {"t": "module", "v": value.__name__}
        return self._numbers(value, kind) or self._of_platform(value, kind) or self._imported(value, kind)

    def _thing(self, value: Any, changes: bool) -> None:
        if not changes:
            return
        if id(value) in self.things:
            raise CannotCrossError("it holds one thing twice")
        self.things.add(id(value))

    def _numbers(self, value: Any, kind: type) -> Any:
        numpy, pandas, arrow = (sys.modules.get(name) for name in ("numpy", "pandas", "pyarrow"))
        if numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject:
            return {"t": "number", "v": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}
        if numpy is not None and kind is numpy.ndarray:
            return self._array(value, numpy)
        if numpy is not None and kind is getattr(numpy.random, "Generator", None):
            self._thing(value, True)
            self._thing(value.bit_generator, True)
            return {"t": "generator", "v": self.encode(value.bit_generator.state)}
        if pandas is not None and kind in (pandas.DataFrame, pandas.Series):
            return self._frame(value, kind.__name__, pandas)
        if arrow is not None and kind is arrow.Table:
            return {"t": "arrow", "v": self._file(lambda handle: _write_arrow(handle, value))}
        return None

    def _array(self, value: Any, numpy: Any) -> Any:
        if value.dtype.hasobject:
            raise CannotCrossError("it is an array of objects")
        self.things.add(id(_root(value)))
        return {
            "t": "array",
            "v": self._file(lambda handle: numpy.save(handle, value, allow_pickle=False)),
            "w": bool(value.flags.writeable),
        }

    def _frame(self, value: Any, kind: str, pandas: Any) -> Any:
        frame = value if kind == "DataFrame" else pandas.DataFrame({0: value})
        if value.attrs or not all(type(name) is str for name in frame.columns if kind == "DataFrame"):
            raise CannotCrossError("its columns' names are no texts")
        for name in frame.columns:
            column = frame[name]
            if column.dtype == object and not _is_text(column, pandas):
                raise CannotCrossError(f"its column {name} holds objects")
            if column.dtype != object:
                self.things.add(id(_root(column.to_numpy(copy=False))))
        stored = frame if kind == "DataFrame" else frame.rename(columns={0: "0"})
        name = value.name if kind == "Series" else None
        import pyarrow

        try:
            table = pyarrow.Table.from_pandas(stored)
            back = table.to_pandas()
            pandas.testing.assert_frame_equal(back, stored, check_exact=True, check_freq=True)
        except (AssertionError, pyarrow.ArrowException, ValueError, TypeError) as error:
            raise CannotCrossError(f"it is a {kind} that does not come back as it was") from error
        self._thing(value, True)
        return {"t": kind, "v": self._file(lambda handle: _write_arrow(handle, table)), "n": self.encode(name)}

    def _of_platform(self, value: Any, kind: type) -> Any:
        if kind.__module__.startswith("jupyter_mlp.") and kind.__name__ in ("DatasetVersion", "Run"):
            return {"t": kind.__name__, "v": str(value.ref)}
        return None

    def _imported(self, value: Any, kind: type) -> Any:
        """What lies in a module under its own name: `from math import sqrt`."""
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(module, str) and isinstance(name, str) and module != "__main__" and _looked_up(module, name) is value:
            return {"t": "imported", "v": [module, name]}
        raise CannotCrossError(f"a {kind.__name__} cannot cross")

    def _file(self, write: Callable[[Any], object]) -> str:
        """Put bytes into a file named by its content; return the name."""
        buffer = io.BytesIO()
        write(buffer)
        data = buffer.getbuffer()
        name = hashlib.sha256(data).hexdigest()
        target = self.folder / name
        if not target.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = target.with_name(f"{name}.{os.getpid()}")
            temporary.write_bytes(data)
            temporary.replace(target)
        return name


def decode(stored: Any, folder: pathlib.Path) -> Any:
    """Return the value that `encode` wrote, reading files from `folder`."""
    if not isinstance(stored, dict):
        return stored
    kind, value = stored["t"], stored["v"]
    if kind in _NAMED:
        return _TEXTS[_NAMED[kind]][1](value)
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](decode(one, folder) for one in value)
    if kind == "dict":
        return {decode(key, folder): decode(one, folder) for key, one in value}
    return _READ[kind](stored, folder)


def _read_datetime(stored: Any, _folder: pathlib.Path) -> Any:
    return datetime.datetime.fromisoformat(stored["v"][0])


def _read_number(stored: Any, _folder: pathlib.Path) -> Any:
    import numpy

    return numpy.frombuffer(base64.b64decode(stored["v"][1]), dtype=numpy.dtype(stored["v"][0]))[0]


def _read_array(stored: Any, folder: pathlib.Path) -> Any:
    import numpy

    value = numpy.load(_checked(folder, stored["v"]), allow_pickle=False)
    value.flags.writeable = stored["w"]
    return value


def _read_generator(stored: Any, folder: pathlib.Path) -> Any:
    import numpy

    state = decode(stored["v"], folder)
    made = numpy.random.Generator(getattr(numpy.random, state["bit_generator"])())
    made.bit_generator.state = state
    return made


def _read_frame(stored: Any, folder: pathlib.Path) -> Any:
    frame = _read_arrow(stored, folder).to_pandas()
    if stored["t"] == "DataFrame":
        return frame
    series = frame["0"].copy()
    series.name = decode(stored["n"], folder)
    return series


def _read_arrow(stored: Any, folder: pathlib.Path) -> Any:
    import pyarrow

    with pyarrow.ipc.open_stream(_checked(folder, stored["v"])) as reader:
        return reader.read_all()


def _read_platform(stored: Any, _folder: pathlib.Path) -> Any:
    found = importlib.import_module("jupyter_mlp")  # by name, as a cell would: the steps lie above this package
    name = stored["v"]
    return found.dataset(name.removeprefix("dataset:")) if stored["t"] == "DatasetVersion" else found.run(name)


_READ: dict[str, Callable[[Any, pathlib.Path], Any]] = {
    "range": lambda stored, _: range(*stored["v"]),
    "timedelta": lambda stored, _: datetime.timedelta(*stored["v"]),
    "datetime": _read_datetime,
    "module": lambda stored, _: importlib.import_module(stored["v"]),
    "number": _read_number,
    "array": _read_array,
    "generator": _read_generator,
    "DataFrame": _read_frame,
    "Series": _read_frame,
    "arrow": _read_arrow,
    "DatasetVersion": _read_platform,
    "Run": _read_platform,
    "imported": lambda stored, _: _looked_up(*stored["v"]),
}


def _is_text(column: Any, pandas: Any) -> bool:
    """Whether a column of objects holds texts and None only."""
    return pandas.api.types.infer_dtype(column, skipna=True) in ("string", "empty") and all(one is None for one in column[column.isna()])


def _looked_up(module: str, name: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _root(array: Any) -> Any:
    """Whose memory an array shows: a view changes with what it is a view of."""
    for owner in _owners(array):
        array = owner
    return array


def _owners(array: Any) -> Iterator[Any]:
    while getattr(array, "base", None) is not None:
        array = array.base
        yield array


def _write_arrow(handle: Any, table: Any) -> None:
    import pyarrow

    with pyarrow.ipc.new_stream(handle, table.schema) as writer:
        writer.write_table(table)


def _checked(folder: pathlib.Path, name: str) -> io.BytesIO:
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != name:
        raise CannotCrossError(f"the file {name[:12]} of a value was changed on disk")
    return io.BytesIO(data)
