"""How well scores order rows within groups: users and their items, queries and their documents. Numpy only.

A group is what is drawn from the world, so it is the unit here: one number of every metric a group, means and intervals over groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jupyter_mlp.core import metrics
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.metrics import Floats, Metric

_SHUFFLES = 20  # of the baseline


@dataclass(frozen=True)
class Groups:
    """Rows in groups, each with its relevance: 0 is not relevant, more is better.

    Attributes:
        numbers: of each row its group, from 0. `k`: places that NDCG looks at.
        skipped: groups that have nothing relevant, so that no order of theirs is better; `alone`: groups of one row.
    """

    relevance: Floats
    numbers: NDArray[np.int64]
    count: int
    k: int
    skipped: int
    alone: int

    @classmethod
    def of(cls, relevance: Floats, values: Sequence[Any], k: int) -> Groups:
        """Return the groups that a column makes.

        Raises:
            InvalidInputError: there is nothing to order.
        """
        if (relevance < 0).any():
            raise InvalidInputError(
                f"The target has values down to {relevance.min():g}, and a relevance is never below 0.",
                "Shift it in the query, or evaluate without --task ranking.",
            )
        every, numbers = np.unique(np.array([str(value) for value in values], dtype=object), return_inverse=True)
        found = np.bincount(numbers, relevance, len(every)) > 0
        if not found.any():
            raise InvalidInputError("No group has a relevant row: the target is 0 everywhere.", "Evaluate on data with known outcomes.")
        return cls(relevance, numbers, len(every), k, int((~found).sum()), int((np.bincount(numbers)[found] == 1).sum()))

    @property
    def names(self) -> list[str]:
        """The metrics; average precision and reciprocal rank ask whether a row is relevant, which grades do not say."""
        graded = bool((~np.isin(self.relevance, (0.0, 1.0))).any())
        return [f"ndcg@{self.k}"] if graded else [f"ndcg@{self.k}", "map", "mrr"]

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the groups."""
        found = [f"{self.skipped:,} groups without a relevant row were left out: no order of theirs is better."] if self.skipped else []
        if self.alone:
            found.append(f"{self.alone:,} groups have one row, whose order is always right: they raise every model's metrics.")
        return found if len(self.names) > 1 else [*found, "MAP and MRR are left out: the target is a grade, not relevant or not."]

    def measured(self, scores: Floats) -> Floats:
        """Return the metrics of each group that has something relevant, [groups, metrics], for the order that scores give.

        Rows with the same score come in random order, the same every time, so that the data's own order helps nobody.
        """
        random = np.random.default_rng(7).random(len(scores))
        order = np.lexsort((random, -scores, self.numbers))
        group, gain = self.numbers[order], self.relevance[order]
        place = _place(group)
        discount = np.where(place < self.k, 1 / np.log2(place + 2.0), 0.0)
        best = np.lexsort((-self.relevance, self.numbers))
        ideal = np.bincount(group, self.relevance[best] * discount, self.count)
        relevant = ideal > 0
        found: list[NDArray[Any]] = [np.bincount(group, gain * discount, self.count)[relevant] / ideal[relevant]]
        if len(self.names) > 1:
            hits = np.cumsum(gain)
            before = hits - gain
            here = hits - before[_starts(group)][_rank(group)]
            totals = np.bincount(group, gain, self.count)[relevant]
            found.append(np.bincount(group, gain * here / (place + 1), self.count)[relevant] / totals)
            found.append(np.bincount(group, (gain > 0) * (here == 1) / (place + 1.0), self.count)[relevant])
        measured: Floats = np.stack(found, axis=1)
        return measured

    @property
    def baseline(self) -> dict[str, float]:
        """What a random order gets."""
        random = np.random.default_rng(11)
        drawn = [self.measured(random.random(len(self.relevance))).mean(axis=0) for _ in range(_SHUFFLES)]
        return dict(zip(self.names, np.mean(drawn, axis=0).tolist(), strict=True))

    @property
    def metric(self) -> Metric:
        """The metric over groups, for `metrics.estimates` and `paired.differences`: weighted means of what `measured` returns."""
        names = self.names

        def mean(_: NDArray[Any], measured: Floats, weights: Floats) -> dict[str, float]:
            return dict(zip(names, np.average(measured, axis=0, weights=weights).tolist(), strict=True))

        return mean


def estimates(groups: Groups, measured: Floats) -> dict[str, metrics.Estimate]:
    """Return the mean of each metric over groups, with its bootstrap interval."""
    return metrics.estimates(groups.metric, np.zeros(len(measured)), measured)


def _starts(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each group begins among rows that are sorted by group."""
    return np.flatnonzero(np.r_[True, group[1:] != group[:-1]])


def _rank(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """The number of each row's group among those that are there."""
    return np.cumsum(np.r_[False, group[1:] != group[:-1]])


def _place(group: NDArray[np.int64]) -> NDArray[np.intp]:
    """Each row's place in its group, from 0."""
    return np.arange(len(group)) - _starts(group)[_rank(group)]
