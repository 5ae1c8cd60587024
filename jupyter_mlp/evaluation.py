"""Step 3, evaluate: a model's metrics on a dataset version, with their uncertainty and a baseline beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import datasets, registry
from jupyter_mlp.store.workspace import current

if TYPE_CHECKING:
    import numpy as np

    from jupyter_mlp.core.baselines import Constant
    from jupyter_mlp.core.metrics import Estimate
    from jupyter_mlp.serving.predictor import Predictor
    from jupyter_mlp.store.datasets import DatasetVersion

_SLICES = 20
_NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "median_ae": "median AE",
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How good a model is on a dataset version.

    Attributes:
        metrics: name -> value. `intervals`: name -> (low, high), 95 %. `baseline`: what saying always the same would get.
        slices: the same metrics for the values of one column.
        report: path of a self-contained HTML page with everything.
    """

    reference: Ref
    model: Ref
    data: Ref
    task: str
    rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline: dict[str, float]
    baseline_is: str
    by: str | None = None
    slices: tuple[dict[str, Any], ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    report: Path | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def beats_baseline(self) -> bool:
        """Whether the main metric's whole interval is on the better side of the baseline."""
        from jupyter_mlp.core.metrics import lower_is_better

        main = next(iter(self.metrics))
        low, high = self.intervals[main]
        return high < self.baseline[main] if lower_is_better(main) else low > self.baseline[main]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as JSON types."""
        from jupyter_mlp.core.identity import plain

        found: dict[str, Any] = plain(
            {
                "ref": self.ref,
                "kind": "evaluation",
                "model": str(self.model),
                "data": str(self.data),
                "task": self.task,
                "rows": self.rows,
                "metrics": self.metrics,
                "intervals": self.intervals,
                "baseline": self.baseline,
                "baseline_is": self.baseline_is,
                "beats_baseline": self.beats_baseline,
                "by": self.by,
                "slices": list(self.slices),
                "report": str(self.report) if self.report else None,
                "seconds": round(self.seconds, 3),
                "notes": list(self.notes),
            }
        )
        return found

    def card(self) -> Card:
        """Return metrics beside the baseline, slices and pictures."""
        rows = [[_NAMES[name], value, _span(self.intervals[name]), self.baseline.get(name)] for name, value in self.metrics.items()]
        tables = [Table(["metric", "model", "95 % interval", f"baseline: {self.baseline_is}"], rows)]
        if self.slices:
            main = next(iter(self.metrics))
            sliced = [
                [part["value"], part["rows"], part["metrics"][main], _span(part["intervals"][main]), part["baseline"][main]]
                for part in self.slices
            ]
            tables.append(Table([str(self.by), "rows", _NAMES[main], "95 % interval", "baseline"], sliced, f"by {self.by}"))
        verdict = "beats the baseline" if self.beats_baseline else "does NOT beat the baseline beyond doubt"
        facts = [
            ("model", self.model.short),
            ("data", f"{self.data.short}, {self.rows:,} rows"),
            ("verdict", verdict),
            ("report", self.report),
        ]
        return Card(f"evaluation of {self.model.short} ({self.task})", facts, tables, self.figures, self.notes)


def evaluate(model: str | Shown, *, data: str | DatasetVersion, by: str | None = None) -> Evaluation:
    """Measure a model on a dataset version and return the evaluation, recorded.

    Args:
        model: `model:<uuid>`, `run:<id>` or a model's name.
        data: a dataset version that has the model's input columns and its target.
        by: a column for whose most frequent values the metrics are given as well.

    Raises:
        NotFoundError: the model, the dataset or a column is unknown.
        InvalidInputError: there is nothing to measure.

    Example:
        >>> mlp.evaluate("DelayModel", data="trips_test").metrics["mae"]
    """
    begun = time.perf_counter()
    workspace, model = current(), named(model)
    found = registry.load(workspace, model)
    dataset = datasets.load(workspace, data if isinstance(data, str) else data.ref)
    reference = Ref("model", found.uuid)
    parameters = {"model": model, "data": dataset.ref, "by": by}
    with workspace.activities.recording("evaluate", name=found.name, used=[reference, dataset.reference], parameters=parameters) as draft:
        _needed(found, dataset, by)
        predictor = _predictor(found.folder)
        try:
            rows = _score(predictor, dataset, str(found.target), by)
        finally:
            predictor.close()
        made = Ref("evaluation", draft.activity.id)
        evaluation = _measure(rows, predictor, made, reference, dataset, by, begun)
        evaluation = _published(evaluation, workspace.artifacts)
        draft.made.append(made)
        draft.facts.update(evaluation.to_dict())
    return evaluation


@dataclass(frozen=True)
class _Scored:
    """What was true and what the model says of it; rows without a truth were dropped."""

    observed: np.ndarray
    predicted: np.ndarray
    slices: list[Any]
    dropped: int


def _predictor(folder: Path) -> Predictor:
    from jupyter_mlp.serving.predictor import Predictor

    return Predictor.load(folder)


def _needed(model: Any, dataset: DatasetVersion, by: str | None) -> None:
    if model.target is None or model.task not in ("regression", "binary", "multiclass"):
        raise InvalidInputError(
            f"{model.name} has no target column, so there is nothing to compare its answers with.", "Train it with --target COLUMN."
        )
    names = dataset.schema.names
    for column in [*model.recipe.columns, model.target, *([by] if by else [])]:
        if column not in names:
            raise NotFoundError(f"{dataset.reference.short} has no column {column}, which this evaluation needs.", nearest(column, names))


def _score(predictor: Predictor, dataset: DatasetVersion, target: str, by: str | None) -> _Scored:
    import numpy as np
    import pyarrow.compute as pc

    observed, predicted, slices = [], [], []
    dropped = 0
    for columns in _batches(dataset, list(dict.fromkeys([*predictor.recipe.columns, target, *([by] if by else [])]))):
        known = pc.is_valid(columns[target])
        dropped += len(known) - int(pc.sum(known).as_py() or 0)
        columns = {name: pc.filter(values, known) for name, values in columns.items()}
        if not len(columns[target]):
            continue
        answers = predictor.predict_columns(columns)
        labels = np.asarray(predictor.recipe.labels(columns[target]))
        told = np.isfinite(labels) if answers.probabilities is None else labels >= 0  # -1: a class that training never saw
        dropped += int((~told).sum())
        observed.append(labels[told])
        predicted.append((answers.scores if answers.probabilities is None else answers.probabilities)[told])
        slices += [value for value, kept in zip(columns[by].to_pylist(), told, strict=True) if kept] if by else []
    if not sum(map(len, observed)):
        raise InvalidInputError(f"{dataset.reference.short} has no row with a known {target}.", "Evaluate on data whose target is known.")
    return _Scored(np.concatenate(observed), np.concatenate(predicted), slices, dropped)


def _batches(dataset: DatasetVersion, names: list[str]) -> Iterator[Mapping[str, Any]]:
    for batch in dataset.batches(names):
        yield {name: batch.column(name) for name in names}


def _measure(
    rows: _Scored, predictor: Predictor, made: Ref, model: Ref, dataset: DatasetVersion, by: str | None, begun: float
) -> Evaluation:
    import numpy as np

    from jupyter_mlp.core import metrics
    from jupyter_mlp.core.baselines import Constant

    task = str(predictor.task)
    metric = metrics.OF_TASK[task]
    observed = rows.observed.astype(np.int64 if task == "multiclass" else np.float64)
    predicted = rows.predicted.astype(np.float64)
    if not np.isfinite(predicted).all():
        raise InvalidInputError(
            f"The model answers {int((~np.isfinite(predicted)).sum())} rows with something that is no finite number.", "Train it again."
        )
    estimates = metrics.estimates(metric, observed, predicted)
    constant = Constant(task, predictor.classes, predictor.recipe.statistics.get(str(predictor.recipe.target), {}))
    notes = [f"{rows.dropped:,} rows without a target that the model knows were left out."] if rows.dropped else []
    return Evaluation(
        made,
        model,
        dataset.reference,
        task,
        len(observed),
        {name: one.value for name, one in estimates.items()},
        _spans(estimates),
        constant.metrics(observed),
        constant.text,
        by,
        tuple(_slices(rows.slices, observed, predicted, metric, constant)) if by else (),
        tuple(_figures(task, observed, predicted, predictor.classes)),
        tuple(notes),
        seconds=time.perf_counter() - begun,
    )


def _slices(values: list[Any], observed: np.ndarray, predicted: np.ndarray, metric: Any, constant: Constant) -> Iterator[dict[str, Any]]:
    from collections import Counter

    import numpy as np

    from jupyter_mlp.core import metrics

    shown = np.array([str(value) for value in values], dtype=object)
    for value, count in Counter(shown.tolist()).most_common(_SLICES):
        here = shown == value
        found = metrics.estimates(metric, observed[here], predicted[here], work=metrics.WORK // _SLICES)
        yield {
            "value": value,
            "rows": count,
            "metrics": {name: one.value for name, one in found.items()},
            "intervals": _spans(found),
            "baseline": constant.metrics(observed[here]),
        }


def _figures(task: str, observed: np.ndarray, predicted: np.ndarray, classes: list[Any] | None) -> Iterator[Figure]:
    import numpy as np

    from jupyter_mlp.core import metrics
    from jupyter_mlp.reports import charts

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
    else:
        counts = metrics.confusion(observed, predicted.argmax(axis=1), predicted.shape[1])
        labels = [str(one) for one in classes or range(predicted.shape[1])]
        yield charts.confusion("Confusion", counts, labels, f"{np.trace(counts) / counts.sum():.1%} on the diagonal")


def _published(evaluation: Evaluation, artifacts: Any) -> Evaluation:
    from dataclasses import replace

    from jupyter_mlp.reports.pages import page

    key = artifacts.put(page(evaluation.card()).encode(), ".html")
    return replace(evaluation, report=artifacts.path(key, ".html"))


def _spans(found: Mapping[str, Estimate]) -> dict[str, tuple[float, float]]:
    return {name: (one.low, one.high) for name, one in found.items()}


def _span(pair: tuple[float, float]) -> str:
    return f"{_number(pair[0])} to {_number(pair[1])}"


def _number(value: float) -> str:
    return f"{value:.4g}"
