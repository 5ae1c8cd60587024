"""The recipe for a handful of rows, in plain Python: ten times as fast as Arrow and numpy are for one request.

Same steps, same numbers (a test compares the two). It only knows the well-formed case: for anything else it gives None
and the recipe itself answers or says what is wrong.
"""

from __future__ import annotations

import datetime
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.recipe import _DAY_S, _YEAR_S, Recipe, Step

if TYPE_CHECKING:
    import numpy as np

MOST_ROWS = 64  # from about here on columns are faster

_Write = Callable[[Any, "array[float]", int], bool]  # (value, buffer, where its features begin) -> whether it was well-formed


class OnlineRecipe:
    """Makes features of a few rows.

    Example:
        >>> OnlineRecipe(recipe).rows([{"dep_delay": 4.0}])
    """

    def __init__(self, recipe: Recipe) -> None:
        self.width = recipe.width
        self._columns = len(recipe.steps)
        self._writers: list[tuple[str, int, _Write]] = []
        at = 0
        for step in recipe.steps:
            self._writers.append((step.column, at, _WRITERS[step.kind](step)))
            at += len(step.names)

    def rows(self, instances: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
        """Return float32 [rows, width], or None where the recipe itself must look."""
        import numpy as np

        width, writers, columns = self.width, self._writers, self._columns
        buffer = array("f", bytes(4 * width * len(instances)))
        start = 0
        try:
            for row in instances:
                if len(row) != columns:
                    return None
                for column, at, write in writers:
                    if not write(row[column], buffer, start + at):
                        return None
                start += width
        except (KeyError, OverflowError, ValueError):
            return None
        return np.frombuffer(buffer, np.float32).reshape(len(instances), width)


def _number(step: Step) -> _Write:
    mean, std = step.mean, step.std

    def write(value: Any, buffer: array[float], at: int) -> bool:
        kind = type(value)
        if kind is float or kind is int:
            if not -1e300 < value < 1e300:
                return False
            buffer[at] = (value - mean) / std
            return True
        return value is None

    return write


def _flag(_step: Step) -> _Write:
    def write(value: Any, buffer: array[float], at: int) -> bool:
        if value is True:
            buffer[at] = 1.0
            return True
        return value is False or value is None

    return write


def _category(step: Step) -> _Write:
    places = {value: index for index, value in enumerate(step.values)}

    def write(value: Any, buffer: array[float], at: int) -> bool:
        if type(value) is str:
            place = places.get(value)
            if place is not None:
                buffer[at + place] = 1.0
            return True
        return value is None

    return write


def _time(step: Step) -> _Write:
    mean, std, day, year = step.mean, step.std, 2 * math.pi / _DAY_S, 2 * math.pi / _YEAR_S

    def write(value: Any, buffer: array[float], at: int) -> bool:
        if value is None:
            return True
        if type(value) is not str:
            return False
        moment = datetime.datetime.fromisoformat(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        buffer[at] = (seconds - mean) / std
        angle = seconds % _DAY_S * day
        buffer[at + 1], buffer[at + 2] = math.sin(angle), math.cos(angle)
        angle = seconds % _YEAR_S * year
        buffer[at + 3], buffer[at + 4] = math.sin(angle), math.cos(angle)
        return True

    return write


_WRITERS: dict[str, Callable[[Step], _Write]] = {"number": _number, "flag": _flag, "category": _category, "time": _time}
