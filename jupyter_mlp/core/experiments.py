"""Is B better than A? Answers that stay true however often one looks.

A fixed test looked at after every batch finds a difference between equal models in about every third stream. What is
computed here may be looked at any time and acted on at once: the error is bounded over all looks together.

    difference   asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit
                 theory and asymptotic confidence sequences", Annals of Statistics 2024, arXiv:2103.06476, theorem 2.2)
                 on the difference of two means; inverted like Fieller's interval for the relative difference
    split        mixture likelihood ratio of the counts (Lindon, Malek: "Anytime-valid inference for multinomial count
                 data", NeurIPS 2022, arXiv:2011.03567): was traffic split as it was meant to be?

Losses are averaged over units. A unit is a request or, where callers are kept on one arm by key, all requests of a key:
the requests of one caller are alike, and counting them one by one would make the intervals too short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.05
SPLIT_ALPHA = 0.01  # a wrong alarm costs trust, and a real mismatch is found a little later
TUNED_FOR = 20_000  # units at which the sequence is tightest; must not be chosen after seeing the data
FEWEST = 100  # units of each arm before anything is said: the theory is asymptotic
POWER = 0.8
_SPLIT_PRIOR = 1000.0  # weight of the planned split, in units: tightest for mismatches of one or two percent
_MOST = 1e9


@dataclass(frozen=True)
class Arm:
    """What is known of one arm: its units, their mean loss, and the variance of one unit around it."""

    units: int
    mean: float
    variance: float


@dataclass(frozen=True)
class Comparison:
    """B against A: by which share of A's loss B's is smaller, with its interval.

    Attributes:
        better: share by which B's mean loss is below A's (0.05: five percent better); negative where it is worse.
        low, high: 95 % confidence sequence of `better`; infinite where A's mean loss may be zero.
        winner: "A" or "B" once that is settled, else None.
        more: about how many more units settle it if the truth is as it looks now; 0 once it is settled.
    """

    units: int
    better: float
    low: float
    high: float
    winner: str | None
    more: int


def arm(losses: Floats, keys: NDArray[np.int64] | None = None) -> Arm:
    """Return the arm of these losses; `keys` says which of them belong to one unit.

    The mean is over losses, its variance over units (a ratio of sums, linearised).
    """
    if not len(losses):
        return Arm(0, math.nan, math.nan)
    if keys is None:
        return Arm(len(losses), float(losses.mean()), float(losses.var(ddof=1)) if len(losses) > 1 else math.nan)
    _, place = np.unique(keys, return_inverse=True)
    sums, counts = np.bincount(place, losses), np.bincount(place)
    mean = float(losses.mean())
    residual = (sums - mean * counts) / counts.mean()
    units = len(counts)
    return Arm(units, mean, float((residual**2).sum() / (units - 1)) if units > 1 else math.nan)


def boundary(units: Floats | float, alpha: float = ALPHA, tuned_for: float = TUNED_FOR) -> Floats:
    """Return how many standard errors the sequence is wide to each side after so many units."""
    rho = tuning(alpha, tuned_for)
    v = np.asarray(units, dtype=np.float64) * rho
    return np.asarray(np.sqrt(2 * (v + 1) / v * np.log(np.sqrt(v + 1) / alpha)))


def tuning(alpha: float, tuned_for: float) -> float:
    """Return rho squared, the weight that makes the sequence tightest after `tuned_for` units (appendix B.2 of the paper)."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for


def compare(a: Arm, b: Arm, *, covariance: float | None = None, smallest: float = 0.02, alpha: float = ALPHA) -> Comparison:
    """Return how much better B is than A, and whether that is settled.

    Args:
        covariance: of the two losses of one unit, where every unit was answered by both (a shadow).
        smallest: the relative difference that is worth finding; says how long to wait when none shows.
    """
    units = a.units + b.units if covariance is None else a.units
    if min(a.units, b.units) < 2 or not a.mean > 0:
        settled = _constant(a, b)
        return Comparison(units, settled, -math.inf, math.inf, None, max(0, 2 * FEWEST - units))
    width = float(boundary(units, alpha))
    va, vb = a.variance / a.units, b.variance / b.units
    low, high = _relative(a.mean, b.mean, va, vb, width, (covariance or 0.0) / a.units)
    better = 1 - b.mean / a.mean
    winner = None
    if min(a.units, b.units) >= FEWEST:
        winner = "B" if low > 0 else "A" if high < 0 else None
    more = 0 if winner else _more(a, b, max(abs(better), smallest), alpha)
    return Comparison(units, better, low, high, winner, more)


def _constant(a: Arm, b: Arm) -> float:
    return 0.0 if not a.units or not b.units or a.mean == b.mean else math.nan


def _relative(mean_a: float, mean_b: float, va: float, vb: float, width: float, both: float) -> tuple[float, float]:
    """The shares r for which |mean_b - (1 - r) mean_a| is within the sequence."""
    k = width * width
    lead, middle, last = mean_a**2 - k * va, mean_a * mean_b - k * both, mean_b**2 - k * vb
    inside = middle**2 - lead * last
    if lead <= 0 or inside < 0:
        return -math.inf, math.inf
    root = math.sqrt(inside)
    return 1 - (middle + root) / lead, 1 - (middle - root) / lead


def needed(effect: float, variance_a: float, variance_b: float, share_b: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Return after how many units a difference of the means of `effect` is found with that power.

    Args:
        effect: the difference of the mean losses, in their unit. `share_b`: part of the traffic that B gets.
    """
    from statistics import NormalDist

    spread = math.sqrt(variance_a / (1 - share_b) + variance_b / share_b)
    quantile = NormalDist().inv_cdf(power)
    low, high = 2.0, _MOST
    while high / low > 1.001:  # what is wanted falls with the units, so halving finds it
        middle = math.sqrt(low * high)
        enough = (float(boundary(middle, alpha)) + quantile) * spread / math.sqrt(middle) <= abs(effect)
        low, high = (low, middle) if enough else (middle, high)
    return max(math.ceil(high), math.ceil(FEWEST / min(share_b, 1 - share_b)))


def _more(a: Arm, b: Arm, share: float, alpha: float) -> int:
    units = a.units + b.units
    if not a.variance + b.variance > 0:
        return max(0, 2 * FEWEST - units)
    return max(1, needed(share * a.mean, a.variance, b.variance, b.units / units, alpha) - units)


def split_evidence(counts_a: Floats, counts_b: Floats, share_b: float) -> Floats:
    """Return the logarithm of the evidence against the planned split; above log(1 / alpha) it is refuted, at any look."""
    alpha_b, alpha_a = _SPLIT_PRIOR * share_b, _SPLIT_PRIOR * (1 - share_b)
    n = counts_a + counts_b
    mixture = (
        _log_gamma(counts_a + alpha_a) - math.lgamma(alpha_a) + _log_gamma(counts_b + alpha_b) - math.lgamma(alpha_b)
        - _log_gamma(n + _SPLIT_PRIOR) + math.lgamma(_SPLIT_PRIOR)
    )  # fmt: skip
    planned = counts_a * math.log(1 - share_b) + counts_b * math.log(share_b)
    return np.asarray(mixture - planned)


def split_is_wrong(count_a: int, count_b: int, share_b: float, alpha: float = SPLIT_ALPHA) -> bool:
    """Whether so many units of each arm refute that B was given `share_b` of them."""
    if not 0 < share_b < 1 or not count_a + count_b:
        return False
    evidence = split_evidence(np.asarray(float(count_a)), np.asarray(float(count_b)), share_b)
    return bool(evidence > -math.log(alpha))


def _log_gamma(x: Floats) -> Floats:
    """Stirling's series, exact to 1e-12 from 10 on, where we are: the prior alone is larger for any share from 1 %."""
    return np.asarray((x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5))
