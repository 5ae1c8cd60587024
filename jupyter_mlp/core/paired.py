"""Two models on the same rows: how far apart their metrics are, how sure that is, and whether chance explains it.

Numpy only. Rows are taken to be independent of one another, as everywhere in `metrics`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jupyter_mlp.core import metrics
from jupyter_mlp.core.metrics import Estimate, Floats, Metric

LEVEL = 0.05
_NORMAL = 1_000_000  # degrees of freedom above which Student's distribution is the normal one to four digits


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same rows.

    Attributes:
        value: second - first; `low`, `high`: its 95 % interval, both models resampled together.
        share: by how much of the first one's metric the second is better, with its own interval; NaN where that is 0.
    """

    first: float
    second: float
    value: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float

    def to_dict(self) -> dict[str, float]:
        """Return the difference as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Test:
    """A paired test of "both are equally good". `metric`: what it asks about; `counts`: rows that only one of them gets right."""

    __test__ = False  # pytest takes classes of this name for its own

    name: str
    metric: str
    p: float
    counts: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the test as JSON types."""
        return asdict(self)

    @property
    def said(self) -> str:
        """The p-value as a person writes it, with the test it is of."""
        return f"{'p < 0.001' if self.p < 0.001 else f'p = {self.p:.2g}'} ({self.name})"


def differences(
    metric: Metric, observed: NDArray[Any], first: NDArray[Any], second: NDArray[Any], seed: int = 7, work: int = metrics.WORK
) -> dict[str, Difference]:
    """Return for every number of `metric` the difference of two models, from resamples of the rows that both share."""
    orders = [metrics.order(metric, observed, one) for one in (first, second)]
    sides = [(observed[order], one[order], order) for one, order in zip((first, second), orders, strict=True)]

    def measured(weights: Floats) -> tuple[dict[str, float], dict[str, float]]:
        a, b = (metric(truth, said, weights[order]) for truth, said, order in sides)
        return a, b

    ones = np.ones(len(observed))
    before, after = measured(ones)
    drawn: dict[str, list[tuple[float, float]]] = {name: [] for name in before}
    random = np.random.default_rng(seed)
    for _ in range(metrics.resamples(len(observed), work // 2) if len(observed) > 1 else 0):
        weights = random.poisson(1.0, len(observed)).astype(np.float64)
        if weights.any():
            a, b = measured(weights)
            for name in drawn:
                drawn[name].append((a[name], b[name]))
    return {name: _difference(name, before[name], after[name], drawn[name]) for name in before}


def test(task: str, observed: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> Test:
    """Return the paired test of a task: of the mean absolute error, or of the share of right answers."""
    if task == "regression":
        p = paired_t(np.abs(second - observed) - np.abs(first - observed))
        return Test("paired t-test of the absolute errors", "mae", p)
    right = [metrics.said(task, one) == observed for one in (first, second)]
    counts = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Test("exact McNemar test", "accuracy", mcnemar(*counts), counts)


def test_of_groups(metric: str, first: Floats, second: Floats) -> Test:
    """Return the paired test of a metric that every group has one number of: its first column of both models."""
    return Test("paired t-test over the groups", metric, paired_t(second[:, 0] - first[:, 0]))


def paired_t(apart: Floats) -> float:
    """Return how likely a mean as far from 0 as that of these differences is, if the true one is 0 (two-sided).

    It asks about the mean, as the metrics do. Wilcoxon's signed ranks ask about the middle of the differences: with skewed
    errors they can call the model better whose mean error is the larger one.
    """
    count = len(apart)
    spread = float(np.std(apart, ddof=1)) if count > 1 else 0.0
    mean = float(np.mean(apart))
    if count < 2 or not mean:
        return 1.0
    return student(mean / (spread / math.sqrt(count)), count - 1) if spread else 0.0


def student(t: float, freedom: int) -> float:
    """Return how likely Student's t is as far from 0 as this (two-sided)."""
    if freedom > _NORMAL:
        return math.erfc(abs(t) / math.sqrt(2))
    return _beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return how likely rows that only one model gets right are split as unevenly, if both are equally often right (two-sided)."""
    count, least = only_first + only_second, min(only_first, only_second)
    steps = np.arange(1, least + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log((count - steps + 1) / steps))])  # logarithms of the binomial coefficients
    most = float(ways.max())
    return min(1.0, 2 * math.exp(most + math.log(float(np.exp(ways - most).sum())) - count * math.log(2)))


def shown(test: Test, difference: Difference) -> bool:
    """Whether the difference is beyond doubt: both the test and the interval say so."""
    return test.p < LEVEL and (difference.low > 0 or difference.high < 0)


def better(name: str, difference: Difference) -> bool:
    """Whether the second model is the better one by this metric."""
    return (difference.value < 0) == metrics.lower_is_better(name)


def _difference(name: str, first: float, second: float, drawn: list[tuple[float, float]]) -> Difference:
    sign = -1 if metrics.lower_is_better(name) else 1
    finite = [(a, b) for a, b in drawn if math.isfinite(a) and math.isfinite(b)]
    apart = metrics.interval(second - first, [b - a for a, b in finite])
    share = Estimate(math.nan, math.nan, math.nan)
    if first and all(a for a, _ in finite):
        share = metrics.interval(sign * (second - first) / abs(first), [sign * (b - a) / abs(a) for a, b in finite])
    return Difference(first, second, apart.value, apart.low, apart.high, share.value, share.low, share.high)


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side converges faster
        return 1 - _beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(2_000):
        m = step // 2
        if step == 0:
            part = 1.0
        elif step % 2 == 0:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _apart(1 + part * d)
        c = _apart(1 + part / c)
        fraction *= c * d
        if abs(c * d - 1) < 1e-13:
            break
    return front * (fraction - 1)


def _apart(value: float) -> float:
    """A number that can be divided by."""
    return value if abs(value) > 1e-300 else 1e-300
