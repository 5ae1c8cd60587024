"""Step 3, evaluate: a model's metrics on a dataset version, with their uncertainty and a baseline beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, overload

from jupyter_mlp import paired_evaluation
from jupyter_mlp.core.cards import Card, Figure, Shown, Table, count_text
from jupyter_mlp.core.metric_names import label
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.paired_evaluation import PairedEvaluation
from jupyter_mlp.store import elsewhere, registry
from jupyter_mlp.store.workspace import current

if TYPE_CHECKING:
    import numpy as np

    from jupyter_mlp.core.forecasts import History
    from jupyter_mlp.core.metrics import Estimate
    from jupyter_mlp.serving.judging import Question, Scored
    from jupyter_mlp.store.datasets import DatasetVersion
    from jupyter_mlp.store.registry import Model

_SLICES = 20
_CLASSES = 30  # that the card shows
_Judged = TypeVar("_Judged", "Evaluation", PairedEvaluation)


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How good a model is on a dataset version.

    Attributes:
        metrics: name -> value. `intervals`: name -> (low, high), 95 %. `baseline`: what saying always the same would get.
        slices: the same metrics for the values of one column. `per_class`: precision, recall and F1 of each class.
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
    per_class: tuple[dict[str, Any], ...] = ()
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
                "per_class": list(self.per_class),
                "report": str(self.report) if self.report else None,
                "seconds": round(self.seconds, 3),
                "notes": list(self.notes),
            }
        )
        return found

    def card(self) -> Card:
        """Return metrics beside the baseline, slices and pictures."""
        rows = [[label(name), value, _span(self.intervals[name]), self.baseline.get(name)] for name, value in self.metrics.items()]
        tables = [Table(["metric", "model", "95 % interval", f"baseline: {self.baseline_is}"], rows)]
        if self.per_class:
            tables.append(self._classes())
        if self.slices:
            main = next(iter(self.metrics))
            sliced = [
                [part["value"], part["rows"], part["metrics"][main], _span(part["intervals"][main]), part["baseline"][main]]
                for part in self.slices
            ]
            tables.append(Table([str(self.by), "rows", label(main), "95 % interval", "baseline"], sliced, f"by {self.by}"))
        verdict = "beats the baseline" if self.beats_baseline else "does NOT beat the baseline beyond doubt"
        facts = [
            ("model", self.model.short),
            ("data", f"{self.data.short}, {self.rows:,} rows"),
            ("verdict", verdict),
            ("report", self.report),
        ]
        return Card(f"evaluation of {self.model.short} ({self.task})", facts, tables, self.figures, self.notes)

    def _classes(self) -> Table:
        """Each class with its metrics and their intervals, as many as a reader looks through."""
        from jupyter_mlp.core.metrics import PER_CLASS

        head = ["class", "rows", *(word for name in PER_CLASS for word in (label(name), "95 % interval"))]
        rows = [
            [one["value"], one["rows"], *(word for name in PER_CLASS for word in (one["metrics"][name], _span(one["intervals"][name])))]
            for one in self.per_class[:_CLASSES]
        ]
        more = len(self.per_class) - len(rows)
        return Table(head, rows, "by class" + (f", the {len(rows)} most frequent of {len(self.per_class)}" if more else ""))


@overload
def evaluate(
    model: str | Shown,
    *,
    data: str | DatasetVersion,
    by: str | None = None,
    against: None = None,
    task: str | None = None,
    group: str | None = None,
    k: int = 10,
    time: str | None = None,
    season: int = 1,
) -> Evaluation: ...
@overload
def evaluate(
    model: str | Shown,
    *,
    data: str | DatasetVersion,
    by: str | None = None,
    against: str | Shown,
    task: str | None = None,
    group: str | None = None,
    k: int = 10,
    time: str | None = None,
    season: int = 1,
) -> PairedEvaluation: ...
def evaluate(
    model: str | Shown,
    *,
    data: str | DatasetVersion,
    by: str | None = None,
    against: str | Shown | None = None,
    task: str | None = None,
    group: str | None = None,
    k: int = 10,
    time: str | None = None,
    season: int = 1,
) -> Evaluation | PairedEvaluation:
    """Measure a model on a dataset version and return the evaluation, recorded.

    Args:
        model: `model:<uuid>`, `run:<id>` or a model's name.
        data: a dataset version that has the model's input columns and its target; a table, or the URL of Parquet files, as in `train`.
        by: a column for whose most frequent values the metrics are given as well.
        against: another model with the same target, asked about the same rows: which is better, by how much, and how sure
            that is (paired bootstrap; paired t-test of the absolute errors, or McNemar's exact test of the right answers).
        task: "ranking" asks how well a binary or regression model orders the rows of each `group`, such as a user's: NDCG@k,
            and where the target is relevant or not MAP and MRR, too. "forecast" adds sMAPE and MASE to the metrics of numbers, beside
            the naive forecast: the value `season` steps of `time` before, in the same `group`. The model's own task when left out.

    Raises:
        NotFoundError: the model, the dataset or a column is unknown.
        InvalidInputError: there is nothing to measure, or the two models cannot be compared.

    Example:
        >>> mlp.evaluate("DelayModel", data="trips_test").metrics["mae"]
        >>> mlp.evaluate("model:champion", data="trips_test", against="DelayModel").sentence
        >>> mlp.evaluate("Recommender", data="clicks_test", task="ranking", group="user_id").metrics["ndcg@10"]
    """
    from jupyter_mlp.serving import judging

    begun = perf_counter()
    workspace, names = current(), [named(one) for one in (model, against) if one is not None]
    models = [registry.load(workspace, name) for name in names]
    dataset = elsewhere.load(workspace, data if isinstance(data, str) else data.ref)
    question = judging.Question(by, task, group, k, time, season)
    more = {"against": names[1]} if against is not None else {}
    parameters = {"model": names[0], "data": dataset.ref, "by": by, **more, **question.told}
    used = [*(Ref("model", one.uuid) for one in models), dataset.reference]
    with workspace.activities.recording("evaluate", name=models[0].name, used=used, parameters=parameters) as draft:
        for one in models:
            judging.check(one, dataset, question)
        if against is not None:
            paired_evaluation.check(models[0], models[1], question)
        scored = judging.score(models, dataset, question.columns)
        made = Ref("evaluation", draft.activity.id)
        evaluation: Evaluation | PairedEvaluation
        if against is not None:
            evaluation = _published(paired_evaluation.measure(scored, models, dataset, made, question, begun), workspace.artifacts)
        else:
            if task == "forecast":
                training = elsewhere.load(workspace, models[0].card_data["data"])
                measured = _forecast(
                    scored, models[0], dataset, made, question, begun, judging.history(models[0], scored, training, question)
                )
            else:
                measured = (_ranked if task == "ranking" else _measure)(scored, models[0], dataset, made, question, begun)
            evaluation = _published(measured, workspace.artifacts)
        draft.made.append(made)
        draft.facts.update(evaluation.to_dict())
    return evaluation


def _measure(scored: Scored, model: Model, dataset: DatasetVersion, made: Ref, question: Question, begun: float) -> Evaluation:
    from jupyter_mlp.core import metrics
    from jupyter_mlp.core.baselines import Constant
    from jupyter_mlp.reports import judged

    task, recipe, by = str(model.task), model.recipe, question.by
    metric = metrics.OF_TASK[task]
    observed, predicted = scored.observed[0], scored.predicted[0]
    estimates = metrics.estimates(metric, observed, predicted)
    constant = Constant(task, recipe.classes, recipe.statistics.get(str(model.target), {}))
    return Evaluation(
        made,
        Ref("model", model.uuid),
        dataset.reference,
        task,
        len(observed),
        {name: one.value for name, one in estimates.items()},
        _spans(estimates),
        constant.metrics(observed),
        constant.text,
        by,
        tuple(_slices(scored.columns[by], observed, predicted, metric, lambda here: constant.metrics(observed[here]))) if by else (),
        tuple(judged.of(task, observed, predicted, recipe.classes or ())),
        tuple(scored.notes),
        per_class=tuple(_per_class(task, observed, predicted, recipe.classes or ())),
        seconds=perf_counter() - begun,
    )


def _ranked(scored: Scored, model: Model, dataset: DatasetVersion, made: Ref, question: Question, begun: float) -> Evaluation:
    from jupyter_mlp.core import ranking
    from jupyter_mlp.reports import judged

    groups = ranking.Groups.of(scored.observed[0], scored.columns[str(question.group)], question.k)
    measured = groups.measured(scored.predicted[0])
    found = ranking.estimates(groups, measured)
    return Evaluation(
        made,
        Ref("model", model.uuid),
        dataset.reference,
        "ranking",
        len(scored.observed[0]),
        {name: one.value for name, one in found.items()},
        _spans(found),
        groups.baseline,
        "rows in random order",
        figures=(judged.of_groups(groups.names[0], measured[:, 0]),),
        notes=(f"Means over {len(measured):,} groups of {question.group}.", *scored.notes, *groups.notes),
        seconds=perf_counter() - begun,
    )


def _forecast(
    scored: Scored, model: Model, dataset: DatasetVersion, made: Ref, question: Question, begun: float, known: History
) -> Evaluation:
    import numpy as np

    from jupyter_mlp.core import forecasts, metrics
    from jupyter_mlp.reports import judged

    told = np.isfinite(known.naive)  # model and naive forecast are judged on the same rows
    observed, predicted = np.stack([scored.observed[0], known.scale], axis=1)[told], scored.predicted[0][told]
    naive, blocks, by = known.naive[told], known.blocks[told], question.by
    found = metrics.estimates(forecasts.regression, observed, predicted, blocks=blocks)

    def baseline(here: np.ndarray) -> dict[str, float]:
        return forecasts.regression(observed[here], naive[here], np.ones(len(naive[here])))

    values = [value for value, kept in zip(scored.columns[by], told, strict=True) if kept] if by else []
    first, steps = int((~told).sum()), count_text(question.season, "step")
    early = [f"{first:,} rows have no value {steps} before them and were left out."] if first else []
    return Evaluation(
        made,
        Ref("model", model.uuid),
        dataset.reference,
        "forecast",
        len(observed),
        {name: one.value for name, one in found.items()},
        _spans(found),
        baseline(np.arange(len(observed))),
        f"the value {steps} before",
        by,
        tuple(_slices(values, observed, predicted, forecasts.regression, baseline, blocks)) if by else (),
        tuple(judged.of("regression", observed[:, 0], predicted, ())),
        (*scored.notes, *early, "Neighbouring times are resampled together, because their errors are alike."),
        seconds=perf_counter() - begun,
    )


def _slices(
    values: list[Any],
    observed: np.ndarray,
    predicted: np.ndarray,
    metric: Any,
    baseline: Callable[[np.ndarray], dict[str, float]],
    blocks: np.ndarray | None = None,
) -> Iterator[dict[str, Any]]:
    from collections import Counter

    import numpy as np

    from jupyter_mlp.core import metrics

    shown = np.array([str(value) for value in values], dtype=object)
    for value, count in Counter(shown.tolist()).most_common(_SLICES):
        here = shown == value
        found = metrics.estimates(
            metric, observed[here], predicted[here], work=metrics.WORK // _SLICES, blocks=None if blocks is None else blocks[here]
        )
        yield {
            "value": value,
            "rows": count,
            "metrics": {name: one.value for name, one in found.items()},
            "intervals": _spans(found),
            "baseline": baseline(here),
        }


def _per_class(task: str, observed: np.ndarray, predicted: np.ndarray, classes: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Precision, recall and F1 of each class, the most frequent first."""
    from jupyter_mlp.core import metrics

    if task == "regression":
        return
    truth, said = observed.astype(int), metrics.said(task, predicted)
    found = metrics.estimates(metrics.per_class(len(classes)), truth, said)
    rows = [int((truth == number).sum()) for number in range(len(classes))]
    for number in sorted(range(len(classes)), key=lambda one: -rows[one]):
        mine = {name: found[f"{name} {number}"] for name in metrics.PER_CLASS}
        yield {
            "value": str(classes[number]),
            "rows": rows[number],
            "metrics": {name: one.value for name, one in mine.items()},
            "intervals": _spans(mine),
        }


def _published(evaluation: _Judged, artifacts: Any) -> _Judged:
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
