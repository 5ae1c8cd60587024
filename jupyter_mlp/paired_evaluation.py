"""What `evaluate(a, data=..., against=b)` returns: two models on the same rows, and whether one of them is better."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_mlp.core import metrics, paired
from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.metric_names import label, long, percent_points
from jupyter_mlp.core.paired import Difference, Test
from jupyter_mlp.core.ranking import Groups
from jupyter_mlp.core.references import Ref

if TYPE_CHECKING:
    from jupyter_mlp.serving.judging import Question, Scored
    from jupyter_mlp.store.datasets import DatasetVersion
    from jupyter_mlp.store.registry import Model

_SLICES = 20


@dataclass(frozen=True, repr=False)
class PairedEvaluation(Shown):
    """How much better one model is than another on the same rows.

    Attributes:
        model, against: the two models; differences are `against` - `model`.
        differences: name of the metric -> Difference. `test`: the paired test of the metric that the sentence is about.
        better: the model that is better beyond doubt; None where no difference can be shown.
        sentence: the verdict, to be quoted. `slices`: the difference in that metric for the values of one column.
        report: path of a self-contained HTML page with everything.
    """

    reference: Ref
    model: Ref
    against: Ref
    data: Ref
    task: str
    rows: int
    differences: dict[str, Difference]
    test: Test
    better: Ref | None
    sentence: str
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as JSON types."""
        from jupyter_mlp.core.identity import plain

        found: dict[str, Any] = plain(
            {
                "ref": self.ref,
                "kind": "paired evaluation",
                "model": str(self.model),
                "against": str(self.against),
                "data": str(self.data),
                "task": self.task,
                "rows": self.rows,
                "differences": {name: one.to_dict() for name, one in self.differences.items()},
                "test": self.test.to_dict(),
                "better": str(self.better) if self.better else None,
                "sentence": self.sentence,
                "by": self.by,
                "slices": list(self.slices),
                "report": str(self.report) if self.report else None,
                "seconds": round(self.seconds, 3),
                "notes": list(self.notes),
            }
        )
        return found

    def card(self) -> Card:
        """Return the verdict, every metric of both models with the difference, slices and pictures."""
        a, b = self.model.short, self.against.short
        head = ["metric", a, b, "difference", "95 % interval"]
        rows = [[label(name), one.first, one.second, one.value, _span(one)] for name, one in self.differences.items()]
        tables = [Table(head, rows, f"{b} - {a} on the same rows")]
        if self.slices:
            sliced = [
                [part["value"], part["rows"], part["difference"]["first"], part["difference"]["second"], part["difference"]["value"],
                 f"{part['difference']['low']:.4g} to {part['difference']['high']:.4g}"]
                for part in self.slices
            ]  # fmt: skip
            tables.append(Table([str(self.by), "rows", *head[1:]], sliced, f"{label(self.test.metric)} by {self.by}"))
        facts = [
            ("verdict", self.sentence),
            ("data", f"{self.data.short}, {self.rows:,} rows"),
            ("test", self.test.said),
            ("report", self.report),
        ]
        return Card(f"{b} against {a} ({self.task})", facts, tables, self.figures, self.notes)


def check(model: Model, other: Model, question: Question) -> None:
    """See that two models answer the same question.

    Raises:
        InvalidInputError: they are one model, or predict different things.
    """
    if question.task == "forecast":
        raise InvalidInputError(
            "Two models are compared row by row, and rows of a series are not independent of one another.",
            "Evaluate each with --task forecast, or leave it out where the rows are few moments of many series.",
        )
    if model.uuid == other.uuid:
        raise InvalidInputError(f"Both models are {model.ref}.", "Name another one after --against; %mlp_models lists them.")
    asked = [(one.target, one.task) for one in (model, other)]
    if asked[0] != asked[1]:
        said = [f"{one.name} predicts {one.target} ({one.task})" for one in (model, other)]
        raise InvalidInputError(f"{said[0]}, {said[1]}: they cannot be compared.", "Compare models with the same target and task.")
    if model.task == "binary" and set(_classes(model)) != set(_classes(other)):
        raise InvalidInputError(
            f"{model.name} tells {' from '.join(_classes(model))}, {other.name} {' from '.join(_classes(other))}.",
            "Compare models that learned the same two classes.",
        )


def measure(
    scored: Scored, models: Sequence[Model], dataset: DatasetVersion, made: Ref, question: Question, begun: float
) -> PairedEvaluation:
    """Return how two models compare on rows that both were asked about."""
    task, by = question.task or str(models[0].task), question.by
    observed, first, second = _together(scored, models)
    if question.group is not None:
        groups = Groups.of(observed, scored.columns[question.group], question.k)
        first, second = groups.measured(first), groups.measured(second)
        observed, metric, more = np.zeros(len(first)), groups.metric, groups.notes
        test, units = paired.test_of_groups(groups.names[0], first, second), f"groups of {question.group}"
    else:
        metric, more = metrics.OF_TASK[task], []
        test, units = paired.test(task, observed, first, second), "rows"
    found = paired.differences(metric, observed, first, second)
    main = found[test.metric]
    a, b = (Ref("model", one.uuid) for one in models)
    better = (b if paired.better(test.metric, main) else a) if paired.shown(test, main) else None
    slices = tuple(_slices(scored.columns[by], metric, test.metric, observed, first, second)) if by else ()
    seen = [f"{one.name} (model:{one.uuid[:8]})" for one in models if one.card_data.get("data") == dataset.ref]
    notes = [*scored.notes, *more, *(f"{name} was trained on this very dataset: rows that it learned from flatter it." for name in seen)]
    if slices:
        notes.append("Each slice has its own 95 % interval: of twenty slices about one differs by chance.")
    return PairedEvaluation(
        made, a, b, dataset.reference, task, len(scored.observed[0]), found, test, better,
        _sentence([f"{one.name} (model:{one.uuid[:8]})" for one in models], test, main, f"{len(observed):,} {units}"),
        by, slices, tuple(_figures(task, observed, first, second)), tuple(notes), seconds=time.perf_counter() - begun,
    )  # fmt: skip


def _together(scored: Scored, models: Sequence[Model]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The truth and both models' answers in the same terms: models may have learned classes in another order, or more of them."""
    task, (first, second) = models[0].task, scored.predicted
    if task == "regression":
        return scored.observed[0], first, second
    mine, theirs = (_classes(one) for one in models)
    if task == "binary":
        return scored.observed[0], first, second if mine == theirs else 1 - second
    every = list(dict.fromkeys([*mine, *theirs]))
    chances = []
    for known, said in ((mine, first), (theirs, second)):
        wide = np.zeros((len(said), len(every)))
        wide[:, [every.index(one) for one in known]] = said
        chances.append(wide)
    return scored.observed[0], chances[0], chances[1]  # the first one's classes have the first numbers


def _classes(model: Model) -> list[str]:
    return [str(one) for one in model.recipe.classes or ()]


def _sentence(names: Sequence[str], test: Test, main: Difference, rows: str) -> str:
    a, b = names
    metric, where = long(test.metric), f"on {rows}"
    if not paired.shown(test, main):
        return (
            f"No difference between {b} and {a} can be shown in {metric} {where}: "
            f"{main.value:+.3g} (95 % CI {main.low:.3g} to {main.high:.3g}), {test.said}."
        )
    better = paired.better(test.metric, main)
    if percent_points(test.metric) or main.share != main.share:
        scale, unit = (100, " percentage points") if percent_points(test.metric) else (1, "")
        told = (main.value, main.low, main.high)
    else:
        scale, unit, told = 100, " %", (main.share, main.share_low, main.share_high)
    sign = 1 if told[0] > 0 else -1
    value, *ends = (sign * scale * one for one in told)
    low, high = sorted(ends)
    return (
        f"{b} is {'better' if better else 'worse'} than {a} by {value:.3g}{unit} (95 % CI {low:.3g} to {high:.3g}) in {metric} "
        f"{where}, {test.said}."
    )


def _slices(
    values: list[Any], metric: Any, main: str, observed: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Iterator[dict[str, Any]]:

    shown = np.array([str(value) for value in values], dtype=object)
    for value, count in Counter(shown.tolist()).most_common(_SLICES):
        here = shown == value
        found = paired.differences(metric, observed[here], first[here], second[here], work=metrics.WORK // _SLICES)
        yield {"value": value, "rows": count, "difference": found[main].to_dict()}


def _figures(task: str, observed: np.ndarray, first: np.ndarray, second: np.ndarray) -> Iterator[Figure]:
    from jupyter_mlp.reports import charts

    if task == "ranking":
        apart = second[:, 0] - first[:, 0]
        counts, edges = np.histogram(apart, bins=40, range=(-1.0, 1.0))
        told = f"the second model is better in {float((apart > 0).mean()):.1%} of the groups, the first in {float((apart < 0).mean()):.1%}"
        yield charts.histogram("Paired groups", counts.tolist(), edges.tolist(), "NDCG of the second - of the first", told)
        return
    if task == "regression":
        apart = np.abs(second - observed) - np.abs(first - observed)
        low, high = np.percentile(apart, [0.5, 99.5])
        counts, edges = np.histogram(np.clip(apart, low, high), bins=40)
        closer = f"the second model is closer on {float((apart < 0).mean()):.1%} of the rows, the first on {float((apart > 0).mean()):.1%}"
        yield charts.histogram("Paired errors", counts.tolist(), edges.tolist(), "|error| of the second - of the first", closer)
        return
    right = [metrics.said(task, one) == observed for one in (first, second)]
    counts = np.array([[((right[0] == i) & (right[1] == j)).sum() for j in (True, False)] for i in (True, False)], float)
    said = f"only the first is right on {counts[0, 1]:,.0f} rows, only the second on {counts[1, 0]:,.0f}"
    yield charts.confusion("Who is right", counts, ["right", "wrong"], said, x="second model", y="first model")


def _span(one: Difference) -> str:
    return f"{one.low:.4g} to {one.high:.4g}"
