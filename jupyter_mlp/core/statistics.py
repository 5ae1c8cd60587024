"""What is measured of a column before its steps are learned: one definition for Arrow batches (here) and for Spark.

    moments    how many numbers, mean, variance, smallest, largest (and the same of log(1 + |x|), where a step takes the log)
    cells      numbers rounded to 11 significant bits (times to 18), how many fall together, and the smallest of them
    values     how often each key occurs, the most frequent ones

Quantiles are read off the cells: the smallest number of the cell that holds the row of that rank. They depend on no
order and no sample, are numbers of the data, and miss the exact quantile by at most a thousandth of its size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.values import TIMES, keys, numbers

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# Rounding to n significant bits in plain arithmetic, which every engine does alike: c - (c - x) with c = x * (2^(53-n) + 1).
SPLIT = 2.0**42 + 1
SPLIT_TIMES = 2.0**35 + 1
BINS = 10
_KEPT = 200_000  # cells gathered before equal ones are merged


@dataclass(frozen=True)
class Need:
    """What is wanted of one column.

    Attributes:
        kind: as in `values`. `most`: how many frequent keys are wanted.
    """

    column: str
    kind: str
    numbers: bool = False
    log: bool = False
    most: int = 0

    @property
    def split(self) -> float:
        """The factor that rounds its numbers to cells."""
        return SPLIT_TIMES if self.kind in TIMES else SPLIT


@dataclass(frozen=True)
class Moments:
    """Of numbers: how many, mean, variance (of all, not of a sample), smallest, largest."""

    count: int
    mean: float
    variance: float
    low: float
    high: float

    @property
    def std(self) -> float:
        """The standard deviation; 1 where all numbers are the same."""
        spread = max(abs(self.low), abs(self.high), 1e-300) * 1e-12
        return math.sqrt(self.variance) if self.variance > 0 and math.sqrt(self.variance) > spread else 1.0

    def mixed(self, more: int, value: float) -> Moments:
        """Return the moments once `more` rows hold `value` besides."""
        count = self.count + more
        if not more or not count:
            return self
        share = more / count
        mean = self.mean + (value - self.mean) * share
        variance = self.variance * (1 - share) + (value - self.mean) ** 2 * share * (1 - share)
        return Moments(count, mean, variance, min(self.low, value), max(self.high, value))


NOTHING = Moments(0, 0.0, 0.0, 0.0, 0.0)


def tidy(value: float, scale: float) -> float:
    """Return a learned number to ten digits of its scale: in which order a cluster added up shows in none of them."""
    if not math.isfinite(value) or not scale or not math.isfinite(scale):
        return value
    return round(value, 9 - math.floor(math.log10(abs(scale))))


@dataclass(frozen=True)
class Facts:
    """What was measured of one column.

    Attributes:
        missing: rows without a value (for numbers: without a finite one).
        least, counts: of the cells, in ascending order, as arrays.
        values: the most frequent keys with their counts, ties in the order of the keys. `distinct`: how many keys there are.
    """

    rows: int
    missing: int
    moments: Moments = NOTHING
    log: Moments = NOTHING
    least: Any = ()
    counts: Any = ()
    values: tuple[tuple[str, int], ...] = ()
    distinct: int = 0

    def quantile(self, share: float) -> float:
        """Return the number below which that share of the numbers lies; NaN where there is none."""
        import numpy as np

        if not len(self.counts):
            return math.nan
        upto = np.cumsum(np.asarray(self.counts))
        rank = max(1, math.ceil(share * int(upto[-1])))
        return float(self.least[int(np.searchsorted(upto, rank))])

    def edges(self, parts: int) -> list[float]:
        """Return what separates `parts` parts of about equal size: fewer where many numbers are the same."""
        found = sorted({self.quantile(at / parts) for at in range(1, parts)} if len(self.counts) else ())
        return [edge for edge in found if edge > self.least[0]]

    def described(self, kind: str) -> dict[str, Any]:
        """Return what drift is judged against later, as JSON types."""
        import numpy as np

        if self.values or not len(self.counts):
            name = "number" if kind in ("number", *TIMES) and not self.values else "category"
            empty = {"count": 0, "edges": [], "shares": [1.0]} if name == "number" else {}
            listed: dict[str, Any] = {}
            if name == "category":
                listed = {"values": [v for v, _ in self.values], "counts": [n for _, n in self.values]}
                listed["other"] = max(0, self.rows - self.missing - sum(listed["counts"]))  # rows with less frequent values
            return {"kind": name, "nulls": self.missing, **empty, **listed}
        edges = self.edges(BINS)
        inside = np.bincount(np.searchsorted(edges, self.least, side="right"), weights=self.counts, minlength=len(edges) + 1)
        return {
            "kind": "number",
            "nulls": self.missing,
            "count": self.moments.count,
            "mean": tidy(self.moments.mean, self.moments.std),
            "std": tidy(self.moments.std, self.moments.std),
            "min": self.moments.low,
            "max": self.moments.high,
            "median": self.quantile(0.5),
            "edges": edges,
            "shares": (inside / inside.sum()).tolist(),
        }


def measure(batches: Iterable[pa.RecordBatch], needs: Sequence[Need], target: str | None = None) -> dict[str, Facts]:
    """Return the facts of every column that is needed, in one pass; rows without a target do not count."""
    gathered = {need.column: _Gathered(need) for need in needs}
    for batch in batches:
        if target is not None:
            batch = _with_target(batch, target)
        for column, one in gathered.items():
            one.add(batch.column(column))
    return {column: one.facts() for column, one in gathered.items()}


def rounded(found: np.ndarray, split: float) -> np.ndarray:
    """Return numbers rounded to their cells."""
    moved = found * split
    return moved - (moved - found)


def _with_target(batch: pa.RecordBatch, target: str) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = batch.column(target).is_valid()
    if pa.types.is_floating(batch.column(target).type):
        known = pc.and_(known, pc.is_finite(batch.column(target)).fill_null(False))
    return batch.filter(known)


class _Gathered:
    """One column while batches stream by."""

    def __init__(self, need: Need) -> None:
        self.need = need
        self.rows = self.missing = 0
        self.sums, self.log = _Sums(), _Sums()
        self.values: Counter[str] = Counter()
        self.cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.kept = 0

    def add(self, column: Any) -> None:
        import numpy as np
        import pyarrow.compute as pc

        self.rows += len(column)
        if self.need.most:
            for pair in pc.value_counts(keys(column).drop_null()).to_pylist():
                self.values[pair["values"]] += pair["counts"]
        if not self.need.numbers:
            self.missing += column.null_count
            return
        found = numbers(column)
        finite = found[np.isfinite(found)]
        self.missing += len(found) - len(finite)
        self.sums.add(finite)
        if self.need.log:
            self.log.add(np.copysign(np.log1p(np.abs(finite)), finite))
        self._add_cells(finite)

    def _add_cells(self, finite: np.ndarray) -> None:
        import numpy as np

        least = np.sort(finite)  # which sorts their cells too
        cells = rounded(least, self.need.split)
        first = _first(cells)
        self.cells.append((cells[first], least[first], np.diff(np.append(first, len(cells)))))
        self.kept += len(self.cells[-1][0])
        if self.kept > _KEPT:
            self._merge()

    def _merge(self) -> None:
        import numpy as np

        self.cells = [_merged(*(np.concatenate(part) for part in zip(*self.cells, strict=True)))] if self.cells else []
        self.kept = sum(len(cells) for cells, _, _ in self.cells)

    def facts(self) -> Facts:
        self._merge()
        _, least, counts = self.cells[0] if self.cells else ((), (), ())
        ordered = sorted(self.values.items(), key=lambda pair: (-pair[1], pair[0]))[: self.need.most]
        return Facts(self.rows, self.missing, self.sums.moments(), self.log.moments(), least, counts, tuple(ordered), len(self.values))


class _Sums:
    """Sums around a first value, which lose no digits to a large mean."""

    def __init__(self) -> None:
        self.count = 0
        self.shift = self.total = self.squares = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, finite: np.ndarray) -> None:
        if not len(finite):
            return
        if not self.count:
            self.shift = float(finite[0])
        moved = finite - self.shift
        self.count += len(finite)
        self.total += float(moved.sum())
        self.squares += float((moved * moved).sum())
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def moments(self) -> Moments:
        if not self.count:
            return NOTHING
        mean = self.total / self.count
        return Moments(self.count, self.shift + mean, max(0.0, self.squares / self.count - mean * mean), self.low, self.high)


def _merged(cells: np.ndarray, least: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put equal cells together: their smallest number, and how many there are."""
    import numpy as np

    if not len(cells):
        return cells, least, counts
    order = np.argsort(cells)
    cells, least, counts = cells[order], least[order], counts[order]
    first = _first(cells)
    return cells[first], np.minimum.reduceat(least, first), np.add.reduceat(counts, first)


def _first(cells: np.ndarray) -> np.ndarray:
    """Where in ascending cells each one begins."""
    import numpy as np

    return np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]])) if len(cells) else np.zeros(0, dtype=np.int64)
