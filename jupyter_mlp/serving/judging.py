"""Rows of a dataset whose target is known, with what models say of them: what every evaluation measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from jupyter_mlp.core import forecasts
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.forecasts import History, Point
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.registry import Model


@dataclass(frozen=True)
class Question:
    """What is asked of rows beside the model's own task.

    Attributes:
        by: a column for whose values everything is said as well.
        task: ranking or forecast; None for the model's own. `group`: whose rows are ordered, or which series a row belongs to.
        k: places of a ranking. `time`: of a forecast. `season`: steps back to what the naive forecast says.
    """

    by: str | None = None
    task: str | None = None
    group: str | None = None
    k: int = 10
    time: str | None = None
    season: int = 1

    @property
    def columns(self) -> list[str]:
        """The columns that it needs beside those of a model."""
        return [name for name in (self.by, self.group, self.time) if name is not None]

    @property
    def told(self) -> dict[str, Any]:
        """Its parts for the record, where it asks another task than the model's own."""
        return {name: value for name, value in vars(self).items() if name != "by" and value is not None} if self.task else {}

    def check(self, model: Model) -> None:
        """See that it can be asked of a model.

        Raises:
            InvalidInputError: its parts do not fit together, or not the model.
        """
        if self.task == "ranking":
            self._check_ranking(model)
        elif self.task == "forecast":
            if model.task != "regression" or self.time is None:
                raise InvalidInputError(
                    "A forecast is of a number, and needs the column of its time.",
                    "Write --task forecast --time day of a regression model.",
                )
        elif self.task not in (None, model.task):
            raise InvalidInputError(
                f"{model.name} answers {model.task}, not {self.task}.", "Leave out --task, or write --task ranking --group COLUMN."
            )
        elif self.group is not None or self.time is not None:
            raise InvalidInputError(
                f"{'--group' if self.group else '--time'} says nothing of {model.task}.", "Write --task ranking or --task forecast with it."
            )
        if self.k < 1 or self.season < 1:
            raise InvalidInputError(f"k is {self.k}, season {self.season}.", "Give numbers from 1 up.")

    def _check_ranking(self, model: Model) -> None:
        if self.group is None or self.time is not None:
            raise InvalidInputError("A ranking needs the column whose rows are ordered.", "Write --task ranking --group user_id.")
        if model.task == "multiclass" or self.by is not None:
            what = "a ranking has no slices" if self.by is not None else f"{model.name} answers with one of many classes"
            raise InvalidInputError(f"Nothing to order by: {what}.", "Rank with a binary or regression model, and without --by.")


@dataclass(frozen=True)
class Scored:
    """Rows with a truth that every model knows; the others were dropped.

    Attributes:
        observed, predicted: of each model the truth as its recipe has it (numbers, or numbers of its classes), and its answers.
        columns: other columns of the same rows, by name.
    """

    observed: list[np.ndarray]
    predicted: list[np.ndarray]
    columns: dict[str, list[Any]]
    dropped: int

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the rows."""
        return [f"{self.dropped:,} rows without a target that the model knows were left out."] if self.dropped else []


def check(model: Model, dataset: DatasetVersion, question: Question) -> None:
    """See that a model can be judged on a dataset.

    Raises:
        InvalidInputError: the model has no target. NotFoundError: the dataset lacks a column.
    """
    if model.target is None or model.task not in ("regression", "binary", "multiclass"):
        raise InvalidInputError(
            f"{model.name} has no target column, so there is nothing to compare its answers with.", "Train it with --target COLUMN."
        )
    question.check(model)
    names = dataset.schema.names
    for column in [*model.recipe.columns, model.target, *question.columns]:
        if column not in names:
            raise NotFoundError(f"{dataset.reference.short} has no column {column}, which this evaluation needs.", nearest(column, names))


def history(model: Model, scored: Scored, training: DatasetVersion, question: Question) -> History:
    """Return what is known of each forecast row, from the data that a model was trained on and from earlier rows.

    Raises:
        NotFoundError: the training data lacks a column.
    """
    needed = [name for name in (question.group, question.time, model.target) if name is not None]
    for name in needed:
        if name not in training.schema.names:
            raise NotFoundError(
                f"{training.reference.short}, which {model.name} learned from, has no column {name}, so MASE has no unit.",
                "Select it in the query of the training data, and leave it out in the recipe.",
            )
    table = training.to_arrow(needed)
    before = [table.column(name).to_pylist() for name in needed]
    now = [*(scored.columns[str(name)] for name in needed[:-1]), scored.observed[0].tolist()]
    if question.group is None:
        before, now = [[""] * len(before[0]), *before], [[""] * len(now[0]), *now]
    rows: list[Point] = list(zip(*now, strict=True))
    learned: list[Point] = [point for point in zip(*before, strict=True) if point[2] is not None]
    return forecasts.history(rows, learned, question.season)


def score(models: Sequence[Model], dataset: DatasetVersion, others: Sequence[str] = ()) -> Scored:
    """Return the rows of a dataset with what each of the models says; all have the same target.

    Raises:
        InvalidInputError: no row has a known target, or a model answers with something that is no finite number.
    """
    predictors: list[Predictor] = []
    try:
        for model in models:
            predictors.append(Predictor.load(model.folder))
        return _score(predictors, dataset, str(models[0].target), others)
    finally:
        for predictor in predictors:
            predictor.close()


def _score(predictors: Sequence[Predictor], dataset: DatasetVersion, target: str, others: Sequence[str]) -> Scored:
    parts: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    kept: dict[str, list[Any]] = {name: [] for name in others}
    dropped = 0
    names = list(dict.fromkeys([*(name for one in predictors for name in one.recipe.columns), target, *others]))
    for batch in dataset.batches(names):
        known = pc.is_valid(batch.column(target))
        dropped += len(known) - int(pc.sum(known).as_py() or 0)
        columns = {name: pc.filter(batch.column(name), known) for name in names}
        if not len(columns[target]):
            continue
        labels = [np.asarray(one.recipe.labels(columns[target])) for one in predictors]
        told = np.logical_and.reduce(
            [np.isfinite(one) & ((one >= 0) | (p.task == "regression")) for one, p in zip(labels, predictors, strict=True)]
        )
        answers = [one.predict_columns(columns) for one in predictors]
        said = [one.scores if one.probabilities is None else one.probabilities for one in answers]
        parts.append(([one[told] for one in labels], [one[told] for one in said]))
        dropped += int((~told).sum())
        for name in others:
            kept[name] += [value for value, here in zip(columns[name].to_pylist(), told, strict=True) if here]
    if not sum(len(labels[0]) for labels, _ in parts):
        raise InvalidInputError(f"{dataset.reference.short} has no row with a known {target}.", "Evaluate on data whose target is known.")
    observed = [
        np.concatenate([labels[i] for labels, _ in parts]).astype(np.int64 if one.task == "multiclass" else np.float64)
        for i, one in enumerate(predictors)
    ]
    predicted = [_finite(np.concatenate([said[i] for _, said in parts]).astype(np.float64)) for i in range(len(predictors))]
    return Scored(observed, predicted, kept, dropped)


def _told(predictor: Predictor, labels: np.ndarray) -> np.ndarray:
    """Which rows have a truth that the model knows; -1 is a class that its training never saw."""
    known: np.ndarray = np.isfinite(labels) if predictor.task == "regression" else labels >= 0
    return known


def _finite(predicted: np.ndarray) -> np.ndarray:
    wrong = int((~np.isfinite(predicted)).sum())
    if wrong:
        raise InvalidInputError(f"The model answers {wrong} rows with something that is no finite number.", "Train it again.")
    return predicted
