"""Do the values of now look like those of then? A test says whether it is more than chance, PSI whether it is worth a word.

    numbers      Kolmogorov-Smirnov, looked at where the training's tenths begin and end (which makes it conservative), and a
                 chi-square test of how many are missing; the smaller p counts, doubled
    categories   chi-square over the values, rare ones put together

"drifted" is what both say: significant after Benjamini-Hochberg over all that is looked at, so that at most one in twenty alarms
is false however many features there are, and PSI above 0.2, so that a million rows do not make news of nothing. Who looks more than
once gives each look its part of that (`shares.spent`), and the promise holds over all of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jupyter_mlp.core import metrics

DRIFTED = 0.2  # PSI from which a feature is flagged; the usual rule of thumb
ENOUGH = 200  # rows below which PSI is mostly noise, with ten bins
FALSE_ALARMS = 0.05  # share of the alarms that may be false
FEW = "too few rows"
_EXPECTED = 5.0  # rows that a cell of a chi-square test should hold


@dataclass(frozen=True)
class Compared:
    """One feature, or the output, against what it was compared with.

    Attributes:
        psi, p: how much it changed, and how likely so much is by chance. `test`: KS or chi-square.
        missing, was_missing: share of the rows without a value, now and then.
        outside: share of the values that are outside of the training's range, or that training never saw; None where not known.
    """

    name: str
    psi: float
    p: float
    test: str
    rows: int
    training: str
    now: str
    missing: float
    was_missing: float
    outside: float | None


def compare(name: str, known: Mapping[str, Any], values: Sequence[Any], as_class: bool = False) -> Compared | None:
    """Compare values with what was measured of a column; None where nothing was."""
    return _by_value(name, known, values) if known["kind"] == "category" or as_class else _by_bin(name, known, values)


def verdicts(found: Sequence[Compared], false_alarms: float = FALSE_ALARMS) -> list[str]:
    """Return what is to be said of each, all of them together: drifted, as trained, or too few rows.

    Args:
        false_alarms: the share of the alarms that may be false, at this look.
    """
    judged = [one for one in found if one.rows >= ENOUGH]
    significant = iter(benjamini_hochberg([one.p for one in judged], false_alarms))
    return [FEW if one.rows < ENOUGH else "drifted" if next(significant) and one.psi > DRIFTED else "as trained" for one in found]


def benjamini_hochberg(chances: Sequence[float], share: float) -> list[bool]:
    """Say which are significant, so that of those on average at most `share` are by chance."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    last = max((rank for rank, at in enumerate(order, 1) if chances[at] <= share * rank / len(chances)), default=0)
    kept = set(order[:last])
    return [at in kept for at in range(len(chances))]


def described(values: Sequence[Any], as_class: bool) -> dict[str, Any]:
    """Return of values what `compare` takes as known, in the form of a recipe's statistics."""
    if as_class:
        counted = Counter(_word(value) for value in values if value is not None)
        return {"kind": "category", "nulls": len(values) - sum(counted.values()), "values": [*counted], "counts": [*counted.values()]}
    numbers = _numbers(values)
    if not len(numbers):
        return {"kind": "number", "nulls": len(values), "count": 0, "edges": [], "shares": [1.0]}
    edges = np.unique(np.quantile(numbers, np.arange(1, 10) / 10, method="inverted_cdf"))
    edges = edges[edges > numbers.min()]
    shares = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1) / len(numbers)
    return {
        "kind": "number", "nulls": len(values) - len(numbers), "count": len(numbers), "mean": float(numbers.mean()),
        "min": float(numbers.min()), "max": float(numbers.max()), "edges": edges.tolist(), "shares": shares.tolist(),
    }  # fmt: skip


def kolmogorov(distance: float, then: float, now: float) -> float:
    """Return the chance of so large a distance between two samples of one distribution."""
    x = distance * math.sqrt(then * now / (then + now)) if then and now else 0.0
    if x < 0.2:
        return 1.0
    return min(1.0, max(0.0, 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * x) ** 2) for j in range(1, 101))))


def chi_square(then: Sequence[float], now: Sequence[float]) -> float:
    """Return the chance that two rows of counts come from one distribution; cells with too little in them are put together."""
    table = np.array([then, now], dtype=np.float64)
    rows = table.sum(axis=1)
    if not rows.all():
        return 1.0
    expected = np.outer(rows, table.sum(axis=0) / rows.sum())
    rare = expected.min(axis=0) < _EXPECTED
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        expected = np.column_stack([expected[:, ~rare], expected[:, rare].sum(axis=1)])
        if expected[:, -1].min() < _EXPECTED and table.shape[1] > 1:  # even all of them are too few: with the least of the others
            least = int(expected[0, :-1].argmin())
            for one in (table, expected):
                one[:, least] += one[:, -1]
            table, expected = table[:, :-1], expected[:, :-1]
    if table.shape[1] < 2:
        return 1.0
    return chi_square_tail(float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1)


def chi_square_tail(value: float, freedom: int) -> float:
    """Return the chance that a chi-square variable is larger: the finite sums of Abramowitz and Stegun, 26.4.4 and 26.4.5."""
    half = value / 2
    if half <= 0:
        return 1.0
    start = 0.5 if freedom % 2 else 0.0
    terms = (math.exp(k * math.log(half) - half - math.lgamma(k + 1)) for k in np.arange(start, freedom / 2 - 0.25))
    return min(1.0, (math.erfc(math.sqrt(half)) if freedom % 2 else 0.0) + sum(terms))


def _by_bin(name: str, known: Mapping[str, Any], values: Sequence[Any]) -> Compared | None:
    numbers = _numbers(values)
    count, nulls, empty = float(known.get("count", 0)), float(known.get("nulls", 0)), len(values) - len(numbers)
    if not count + nulls or not values:
        return None
    edges, shares = np.asarray(known["edges"]), np.asarray(known["shares"])
    counted = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(shares)).astype(float)
    below = above = 0.0
    if count and len(numbers):
        below, above = float((numbers < known["min"]).mean()), float((numbers > known["max"]).mean())
    apart = np.abs(np.cumsum(counted) / max(1, len(numbers)) - np.cumsum(shares))
    chance = kolmogorov(max(float(apart.max()), below, above), count, len(numbers))
    of_missing = chi_square([nulls, count], [empty, len(numbers)])
    # Training rows count as if there had been as many as requests, so that half a row weighs the same on both sides.
    scale = len(values) / (count + nulls)
    before, after = [*(shares * count * scale).tolist(), nulls * scale], [*counted.tolist(), float(empty)]
    now = f"mean {numbers.mean():.4g}" if len(numbers) else "no values"
    return Compared(
        name, round(metrics.psi(before, after), 4), min(1.0, 2 * min(chance, of_missing)), "KS", len(values),
        f"mean {known.get('mean', 0):.4g}", now, empty / len(values), nulls / (count + nulls), below + above if count else None,
    )  # fmt: skip


def _by_value(name: str, known: Mapping[str, Any], values: Sequence[Any]) -> Compared | None:
    seen = Counter(None if value is None else _word(value) for value in values)
    empty = seen.pop(None, 0)
    trained: dict[str, float] = dict(zip(known.get("values", []), known.get("counts", []), strict=False))
    counted = [float(seen.pop(value, 0)) for value in trained]
    other, new = float(known.get("other", 0)), float(sum(seen.values()))
    names, then, now = [*trained, "(missing)"], [*trained.values(), float(known.get("nulls", 0))], [*counted, float(empty)]
    if other or "other" in known or not _cut(known):
        names, then, now = [*names, "(other)" if other else "(new)"], [*then, other], [*now, new]
    if not sum(then) or not sum(now):
        return None
    scale = sum(now) / sum(then)
    return Compared(
        name, round(metrics.psi([count * scale for count in then], now), 4), chi_square(then, now), "chi-square", len(values),
        _most(names, then), _most(names, now), empty / len(values), float(known.get("nulls", 0)) / sum(then),
        None if other or _cut(known) else new / max(1, len(values) - empty),
    )  # fmt: skip


def _cut(known: Mapping[str, Any]) -> bool:
    """Whether training saw more values than were written down, and nobody wrote how many rows had them (older models)."""
    return "other" not in known and len(known.get("values", [])) >= 64


def _most(names: Sequence[str], counts: Sequence[float]) -> str:
    best = max(range(len(counts)), key=counts.__getitem__)
    return f"{names[best]} {counts[best] / max(1.0, sum(counts)):.0%}"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(values: Sequence[Any]) -> np.ndarray:
    found = np.array([n for n in map(_number, values) if n is not None], dtype=np.float64)
    return found[np.isfinite(found)]


def _number(value: Any) -> float | None:
    """A logged feature as the number its statistics are in; times are seconds since 1970."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(value)
