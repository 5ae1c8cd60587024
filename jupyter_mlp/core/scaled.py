"""Numbers that are only imputed and scaled, which most are: all such columns of some rows at once.

One column after the other, as `steps` does it, takes ten calls for each column of a block; together it is one, in
blocks that the processor's cache holds. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import values
from jupyter_mlp.core.steps import Step

if TYPE_CHECKING:
    import numpy as np

_NUMBERS = 262_144  # of a block: two megabytes, so that calls of numpy are few
_WORDS = [["number"], ["impute", "number"], ["scale", "number"], ["impute", "scale", "number"]]


def fits(form: str, steps: Sequence[Step]) -> bool:
    """Whether a column is one of these."""
    return form == "number" and [step["step"] for step in steps] in _WORDS


class Scaled:
    """What is learned of several such columns.

    Args:
        columns: their names. `steps`: those of each. `places`: where in the matrix of features each one goes.
    """

    def __init__(self, columns: Sequence[str], steps: Sequence[Sequence[Step]], places: Sequence[int]) -> None:
        import numpy as np

        learned = [{step["step"]: step for step in one} for one in steps]
        self._columns = columns
        self._fill = _upright([one.get("impute", {}).get("value", np.nan) for one in learned])
        self._shift = _upright([one.get("scale", {}).get("shift", 0.0) for one in learned])
        self._by = _upright([one.get("scale", {}).get("by", 1.0) for one in learned])
        self._places = places
        neighbours = list(places) == list(range(places[0], places[0] + len(places))) if places else False
        self._where = slice(places[0], places[0] + len(places)) if neighbours else list(places)

    def write(self, columns: Mapping[str, Any], out: np.ndarray) -> None:
        """Write the features of Arrow columns to their places in `out` [rows, width]."""
        import numpy as np

        if not self._columns:
            return
        found = [values.plain_numbers(columns[name]) for name in self._columns]
        rows = max(256, _NUMBERS // len(found))
        space = np.empty((len(found), min(rows, len(out))))  # a few rows that are asked for take no more than they need
        for start in range(0, len(out), rows):
            block = out[start : start + rows]
            numbers = space[:, : len(block)]
            for number, column in zip(numbers, found, strict=True):
                number[:] = column[start : start + rows]
            self._change(numbers)
            for place, number in zip(self._places, numbers, strict=True):
                block[:, place] = number

    def write_rows(self, given: Sequence[Sequence[float | None]], out: np.ndarray) -> bool:
        """Write the features of a few rows, each its values in the order of the columns, to their places in `out` [rows, width].

        Returns:
            False where a number is out of range: nothing was written.
        """
        import numpy as np

        numbers = np.array(given, dtype=np.float64)  # None becomes NaN
        if np.abs(numbers).max() <= values.LARGEST:
            changed = (numbers - self._shift[:, 0]) / self._by[:, 0]
            if np.abs(changed).max() <= values.LARGEST:
                out[:, self._where] = changed
                return True
        missing = sum(row.count(None) for row in given)
        if np.count_nonzero(~(np.abs(numbers) <= values.LARGEST)) > missing:
            return False
        self._change(numbers.T)
        out[:, self._where] = numbers
        return True

    def _change(self, numbers: np.ndarray) -> None:
        import numpy as np

        if not _all_known(numbers):
            with np.errstate(invalid="ignore"):
                np.copyto(numbers, self._fill, where=~(np.abs(numbers) <= values.LARGEST))
        np.subtract(numbers, self._shift, out=numbers)
        np.divide(numbers, self._by, out=numbers)
        if not _all_known(numbers):
            np.copyto(numbers, 0.0, where=np.isnan(numbers))
            np.clip(numbers, -values.LARGEST, values.LARGEST, out=numbers)


def _all_known(numbers: np.ndarray) -> bool:
    """Whether no number is missing or out of range; the largest of some with a NaN is NaN."""
    return bool(numbers.max() <= values.LARGEST and numbers.min() >= -values.LARGEST)


def _upright(numbers: Sequence[float]) -> np.ndarray:
    import numpy as np

    return np.array(numbers, dtype=np.float64)[:, None]
