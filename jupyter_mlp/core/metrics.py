"""Metrics with their uncertainty: numpy only, rows may be weighted, 95 % intervals by bootstrap.

Of observed and predicted values `estimates` gives {"mae": Estimate(12.1, 11.8, 12.5), ...}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[..., dict[str, float]]

WORK = 20_000_000  # row draws for the intervals of one evaluation: one to two seconds
PER_CLASS = ("precision", "recall", "f1")
_TINY = 1e-15


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the estimate as JSON types."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimates(
    metric: Metric,
    observed: NDArray[Any],
    predicted: NDArray[Any],
    seed: int = 7,
    work: int = WORK,
    blocks: NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """Return every number of `metric` with its bootstrap interval; rows of the same number in `blocks` are resampled together.

    Each resample gives every row a Poisson weight, which is the bootstrap without copying rows. Large data gets fewer
    resamples; below 100 of them the interval is value +- 1.96 standard deviations, which needs fewer draws than quantiles.
    """
    sorted_once = order(metric, observed, predicted)
    observed, predicted = observed[sorted_once], predicted[sorted_once]
    values = metric(observed, predicted, np.ones(len(observed)))
    random = np.random.default_rng(seed)
    together, many = (None, 0) if blocks is None else (blocks[sorted_once], int(blocks.max()) + 1)
    draws: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(resamples(len(observed), work) if len(observed) > 1 else 0):
        weights = random.poisson(1.0, len(observed)).astype(np.float64) if together is None else random.poisson(1.0, many)[together] * 1.0
        if not weights.any():
            continue
        for name, value in metric(observed, predicted, weights).items():
            if np.isfinite(value):
                draws[name].append(value)
    return {name: interval(value, draws[name]) for name, value in values.items()}


def regression(observed: Floats, predicted: Floats, weights: Floats) -> dict[str, float]:
    """Return MAE, RMSE, R2 and median absolute error."""
    error = predicted - observed
    absolute = np.abs(error)
    mean = np.average(observed, weights=weights)
    residual = np.average(error**2, weights=weights)
    spread = np.average((observed - mean) ** 2, weights=weights)
    return {
        "mae": float(np.average(absolute, weights=weights)),
        "rmse": float(np.sqrt(residual)),
        "r2": float(1 - residual / spread) if spread > 0 else float("nan"),
        "median_ae": weighted_median(absolute, weights),
    }


def binary(observed: Floats, chance: Floats, weights: Floats) -> dict[str, float]:
    """Return AUC, accuracy, F1, log loss and calibration error; `observed` is 0 or 1, `chance` the probability of 1."""
    said = chance >= 0.5
    hit = weights @ (said & (observed == 1))
    false, missed = weights @ (said & (observed == 0)), weights @ (~said & (observed == 1))
    clipped = np.clip(chance, _TINY, 1 - _TINY)
    loss = -np.where(observed == 1, np.log(clipped), np.log1p(-clipped))
    return {
        "auc": auc(observed, chance, weights),
        "accuracy": float(np.average(said == (observed == 1), weights=weights)),
        "f1": float(2 * hit / (2 * hit + false + missed)) if hit + false + missed else float("nan"),
        "log_loss": float(np.average(loss, weights=weights)),
        "calibration_error": calibration_error(observed, chance, weights),
    }


def multiclass(observed: NDArray[np.int64], chances: Floats, weights: Floats) -> dict[str, float]:
    """Return accuracy, macro F1 and log loss; `observed` are class numbers, `chances` is [n, classes]."""
    said = chances.argmax(axis=1)
    table = confusion(observed, said, chances.shape[1], weights)
    hits = np.diag(table)
    support = table.sum(axis=0) + table.sum(axis=1)
    seen = support > 0
    loss = -np.log(np.clip(chances[np.arange(len(observed)), observed], _TINY, 1.0))
    return {
        "accuracy": float(np.average(said == observed, weights=weights)),
        "macro_f1": float(np.mean(2 * hits[seen] / support[seen])) if seen.any() else float("nan"),
        "log_loss": float(np.average(loss, weights=weights)),
    }


def said(task: str, chances: Floats) -> NDArray[np.int64]:
    """Return the number of the class that a classifier says: the second of two from a half up, else the most likely."""
    found: NDArray[np.int64] = chances.argmax(axis=1) if task == "multiclass" else (chances >= 0.5).astype(np.int64)
    return found


def per_class(classes: int) -> Metric:
    """Return the metric that gives precision, recall and F1 of each class: "precision 0", "recall 0" ... of class numbers."""

    def measured(observed: NDArray[np.int64], answered: NDArray[np.int64], weights: Floats) -> dict[str, float]:
        right = answered == observed
        hits = np.bincount(observed[right], weights[right], classes)
        there, named = np.bincount(observed, weights, classes), np.bincount(answered, weights, classes)
        with np.errstate(invalid="ignore"):  # nobody said the class, or it is not there: nothing can be said of it
            found = {"precision": hits / named, "recall": hits / there, "f1": 2 * hits / (there + named)}
        return {f"{name} {number}": float(found[name][number]) for number in range(classes) for name in PER_CLASS}

    return measured


OF_TASK: dict[str, Metric] = {"regression": regression, "binary": binary, "multiclass": multiclass}


def auc(observed: Floats, chance: Floats, weights: Floats) -> float:
    """Return the area under the ROC curve: how often a positive row outranks a negative one, ties counting half."""
    order = np.argsort(chance, kind="stable")
    score, positive = chance[order], weights[order] * (observed[order] == 1)
    negative = weights[order] - positive
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]]) if len(score) else np.array([], dtype=int)
    if not positive.sum() or not negative.sum():
        return float("nan")
    positives, negatives = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positive.sum() * negative.sum()))


def calibration(observed: Floats, chance: Floats, weights: Floats, bins: int = 10) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mean chance, observed share and weight of each bin of equal width that holds rows."""
    which = np.minimum((chance * bins).astype(int), bins - 1)
    weight = np.bincount(which, weights, bins)
    kept = weight > 0
    said = np.bincount(which, weights * chance, bins)[kept] / weight[kept]
    seen = np.bincount(which, weights * observed, bins)[kept] / weight[kept]
    return said, seen, weight[kept]


def calibration_error(observed: Floats, chance: Floats, weights: Floats) -> float:
    """Return how far, on average over rows, the chance of a bin is from the share that was observed."""
    said, seen, weight = calibration(observed, chance, weights)
    return float(np.average(np.abs(said - seen), weights=weight))


def roc(observed: Floats, chance: Floats, points: int = 200) -> tuple[Floats, Floats]:
    """Return false and true positive rates along the ROC curve, thinned to about `points`."""
    order = np.argsort(-chance, kind="stable")
    hits = np.cumsum(observed[order] == 1)
    falses = np.cumsum(observed[order] == 0)
    ends = np.flatnonzero(np.r_[np.diff(chance[order]) != 0, True])
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, points).astype(int))]
    return np.r_[0.0, falses[ends] / max(1, falses[-1])], np.r_[0.0, hits[ends] / max(1, hits[-1])]


def confusion(observed: NDArray[np.int64], said: NDArray[np.int64], classes: int, weights: Floats | None = None) -> Floats:
    """Return counts by observed (row) and said (column) class."""
    counted = np.bincount(observed * classes + said, weights, classes * classes)
    return counted.reshape(classes, classes).astype(np.float64)


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the value that half of the weight lies below."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the population stability index of two histograms; 0 is no change, above 0.2 is usually worth a look.

    Half a row is added to every bin, so that an empty one gives a large number instead of infinity.
    """
    before, after = np.asarray(expected, dtype=np.float64) + 0.5, np.asarray(actual, dtype=np.float64) + 0.5
    before, after = before / before.sum(), after / after.sum()
    return float(((after - before) * np.log(after / before)).sum())


def lower_is_better(name: str) -> bool:
    """Whether a smaller number of this metric is the better one."""
    return name in ("mae", "rmse", "median_ae", "log_loss", "calibration_error", "smape", "mase")


def as_json(found: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Return estimates as JSON types."""
    return {name: estimate.to_dict() for name, estimate in found.items()}


def resamples(rows: int, work: int = WORK) -> int:
    """Return how many resamples of so many rows are drawn."""
    return int(np.clip(work / max(1, rows), 20, 400))


def interval(value: float, draws: Sequence[float]) -> Estimate:
    """Return a value with the 95 % interval that its resamples give."""
    if len(draws) < 2:
        return Estimate(value, float("nan"), float("nan"))
    if len(draws) < 100:
        half = 1.96 * float(np.std(draws, ddof=1))
        return Estimate(value, value - half, value + half)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def order(metric: Metric, observed: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.intp]:
    """Return an order of the rows in which the metric's own sort costs little."""
    if metric not in (regression, binary):
        return np.arange(len(observed))
    return np.argsort(np.abs(predicted - observed) if metric is regression else predicted, kind="stable")
