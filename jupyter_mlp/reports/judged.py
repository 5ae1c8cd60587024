"""The pictures of an evaluation, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jupyter_mlp.core import metrics
from jupyter_mlp.core.cards import Figure
from jupyter_mlp.reports import charts


def of(task: str, observed: np.ndarray, predicted: np.ndarray, classes: Sequence[Any]) -> Iterator[Figure]:
    """Yield the pictures of a task: where a model errs, and what its chances are worth."""
    if task == "regression":
        error = predicted - observed
        low, high = np.percentile(error, [0.5, 99.5])
        counts, edges = np.histogram(np.clip(error, low, high), bins=40)
        middle = f"half of the errors lie between {np.percentile(error, 25):.3g} and {np.percentile(error, 75):.3g}"
        yield charts.histogram("Residuals", counts.tolist(), edges.tolist(), "predicted - observed", middle)
        yield charts.against("Predicted vs observed", observed, predicted, "observed", "predicted")
    elif task == "binary":
        false, true = metrics.roc(observed, predicted)
        area = metrics.auc(observed, predicted, np.ones(len(observed)))
        points = list(zip(false.tolist(), true.tolist(), strict=True))
        yield charts.curve("ROC", points, "false positive rate", "true positive rate", True, alt=f"area under the curve {area:.3f}")
        said, seen, _ = metrics.calibration(observed, predicted, np.ones(len(observed)))
        yield charts.curve(
            "Calibration", list(zip(said.tolist(), seen.tolist(), strict=True)), "predicted chance", "observed share", True, True
        )
    if task != "regression":
        counts = metrics.confusion(observed.astype(np.int64), metrics.said(task, predicted), len(classes))
        labels = [str(one) for one in classes]
        yield charts.confusion("Confusion", counts, labels, f"{np.trace(counts) / counts.sum():.1%} on the diagonal")


def of_groups(name: str, values: np.ndarray) -> Figure:
    """The picture of a ranking: a metric of every group."""
    counts, edges = np.histogram(values, bins=20, range=(0.0, 1.0))
    told = f"half of the groups lie between {np.percentile(values, 25):.3g} and {np.percentile(values, 75):.3g}"
    return charts.histogram(f"{name.upper()} by group", counts.tolist(), edges.tolist(), name.upper(), told)
