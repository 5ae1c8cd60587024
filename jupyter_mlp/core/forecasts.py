"""Forecasts of series: errors beside those of the naive forecast, and stretches of time whose errors are alike. Numpy only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jupyter_mlp.core import metrics
from jupyter_mlp.core.cards import count_text
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.metrics import Floats

Point = tuple[Any, Any, float]  # series, time, value


@dataclass(frozen=True)
class History:
    """What was known of each row that is forecast.

    Attributes:
        naive: the value one season before in the same series; NaN where none is known.
        scale: how far, on average, the training values of the series are from those one season before: the unit of MASE.
        blocks: of each row the stretch of time that it is resampled with.
    """

    naive: Floats
    scale: Floats
    blocks: NDArray[np.int64]


def history(rows: Sequence[Point], training: Iterable[Point], season: int) -> History:
    """Return what the training rows, and earlier ones of the rows themselves, tell of each row.

    Raises:
        InvalidInputError: a time is missing, or no row has a value one season before.
    """
    learned, known = _series(training), _series(rows)
    naive: dict[tuple[Any, Any], float] = {}
    scale: dict[Any, float] = {}
    block: dict[tuple[Any, Any], int] = {}
    first = 0
    for name, values in known.items():
        before = learned.get(name, {})
        steps = np.array([before[time] for time in sorted(before)])
        apart = np.abs(steps[season:] - steps[:-season])
        scale[name] = float(apart.mean()) if len(apart) and apart.any() else float("nan")
        every = before | values
        times = sorted(every)
        naive |= {(name, time): every[times[at - season]] for at, time in enumerate(times) if at >= season}
        length = max(season, round(len(values) ** (1 / 3)))
        block |= {(name, time): first + at // length for at, time in enumerate(sorted(values))}
        first += -(-len(values) // length)
    found = np.array([naive.get((name, time), np.nan) for name, time, _ in rows])
    if np.isnan(found).all():
        raise InvalidInputError(
            f"No row has a value {count_text(season, 'step')} before it in its series.", "Give a smaller --season, or more rows."
        )
    return History(found, np.array([scale[name] for name, _, _ in rows]), np.array([block[name, time] for name, time, _ in rows]))


def regression(observed: Floats, predicted: Floats, weights: Floats) -> dict[str, float]:
    """Return the metrics of numbers with sMAPE (in percent) and MASE; `observed` is [rows, 2]: the truth, and the unit of MASE."""
    truth, scale = observed[:, 0], observed[:, 1]
    error = np.abs(predicted - truth)
    size = np.abs(truth) + np.abs(predicted)
    share = np.divide(2 * error, size, out=np.zeros_like(error), where=size > 0)
    told = np.isfinite(scale) & (weights > 0)
    scaled = float(np.average(error[told] / scale[told], weights=weights[told])) if told.any() else float("nan")
    found = metrics.regression(truth, predicted, weights)
    return {**found, "smape": 100 * float(np.average(share, weights=weights)), "mase": scaled}


def _series(points: Iterable[Point]) -> Mapping[Any, dict[Any, float]]:
    found: dict[Any, dict[Any, float]] = defaultdict(dict)
    for name, time, value in points:
        if time is None:
            raise InvalidInputError("A row has no time.", "Leave such rows out in the query.")
        found[name].setdefault(time, value)
    return found
