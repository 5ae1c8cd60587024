"""The baseline every model must beat: always give the same answer, learned from the training data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jupyter_mlp.core import metrics


class Constant:
    """The best answer without looking at the inputs.

    Args:
        task: regression, binary or multiclass.
        classes: the target's values in the order of the model's outputs.
        known: the recipe's statistics of the target.
    """

    def __init__(self, task: str, classes: Sequence[Any] | None, known: Mapping[str, Any]) -> None:
        self.task = task
        self._classes = list(classes or [0, 1])
        self._known = known

    @property
    def text(self) -> str:
        """What it says, for people."""
        if self.task == "regression":
            return f"always the training median ({self._median:.4g}); the mean for RMSE and R2"
        return f"always the most frequent class ({self._classes[int(self._shares().argmax())]})"

    def metrics(self, observed: NDArray[Any]) -> dict[str, float]:
        """Return the metrics of a model for the constant answer."""
        ones = np.ones(len(observed))
        if self.task == "regression":
            middle = metrics.regression(observed, np.full(len(observed), self._median), ones)
            mean = metrics.regression(observed, np.full(len(observed), float(self._known.get("mean", 0.0))), ones)
            return {**middle, "rmse": mean["rmse"], "r2": mean["r2"]}  # each metric against the constant that is best for it
        shares = self._shares()
        if self.task == "binary":
            return metrics.binary(observed, np.full(len(observed), float(shares[1])), ones)
        return metrics.multiclass(observed, np.tile(shares, (len(observed), 1)), ones)

    @property
    def _median(self) -> float:
        return float(self._known.get("median", 0.0))

    def _shares(self) -> NDArray[Any]:
        counts = dict(zip(self._known.get("values", []), self._known.get("counts", []), strict=False))
        found = np.array([counts.get(str(one), 0) for one in self._classes], dtype=float)
        return found / found.sum() if found.sum() else np.full(len(self._classes), 1 / len(self._classes))
