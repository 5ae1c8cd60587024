"""Shapley values of a model's input columns, by captum, and what the model answers when one column is changed.

The players are the columns as people know them (dep_delay, carrier), not the features that the recipe makes of them: a
category's twenty indicators are one player, and nothing has to be differentiable, so a model that runs from its source
is explained like an exported one. Integrated gradients would need both; taking columns away one at a time (feature
ablation) would not add up where columns act together. Shapley values add up to the difference between the row's answer
and the usual row's, whatever the model does inside; they are sampled over random orders of the columns.

    kept      [1 0 1]  which columns keep the row's own value, the others get the usual one
    answer    f(40, AA, 2475)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError
from jupyter_mlp.core.explaining import Usual
from jupyter_mlp.core.recipe import Input
from jupyter_mlp.core.values import json_ready

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.serving.predictor import Prediction, Predictor

_BATCH = 8_192  # rows of one call of the model


class Asking:
    """A model as a function of which columns keep their own values.

    Args:
        rows: the input columns of the rows to explain.
        usual: column -> what stands there otherwise.
    """

    def __init__(self, predictor: Predictor, rows: pa.Table, usual: Mapping[str, Usual]) -> None:
        self.predictor = predictor
        self.columns: list[str] = rows.column_names
        self._rows = rows
        self._usual = usual
        self._said = np.zeros(rows.num_rows, dtype=np.int64)
        found = predictor.predict_columns(_columns(rows))
        if found.probabilities is not None and found.probabilities.ndim == 2:
            self._said = found.probabilities.argmax(axis=1)  # the class that is said for a row stays the question
        self.predictions = self._numbers(found, np.arange(rows.num_rows))

    def __call__(self, kept: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Return answers, float64 [n].

        Args:
            kept: bool [n, columns]. `of`: int [n], the row that each is about.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        own = self._rows.take(pa.array(of))
        columns = {}
        for place, name in enumerate(self.columns):
            value = pa.scalar(self._usual[name].value, own.schema.field(name).type)
            columns[name] = pc.if_else(pa.array(np.ascontiguousarray(kept[:, place])), own.column(name), value)
        return self._numbers(self.predictor.predict_columns(columns), of)

    def row(self, row: int) -> dict[str, Any]:
        """Return a row's own values."""
        found: dict[str, Any] = self._rows.slice(row, 1).to_pylist()[0]
        return found

    def said(self, row: int) -> Any:
        """Return the class whose chance a row's answer is; None in a regression."""
        if self.predictor.task == "binary":
            return (self.predictor.classes or [0, 1])[1]
        if self.predictor.task == "multiclass":
            place = int(self._said[row])
            return self.predictor.classes[place] if self.predictor.classes else place
        return None

    def changed(self, row: int) -> tuple[float, dict[str, float]]:
        """Return a row's answer, and column -> the answer when this column alone is usual, asked as an endpoint is."""
        own = {name: json_ready(value) for name, value in self.row(row).items()}
        usual = {name: json_ready(one.value) for name, one in self._usual.items()}
        found = self.predictor.answer([own, *({**own, name: usual[name]} for name in self.columns)])
        numbers = self._numbers(found, np.full(len(self.columns) + 1, row)).tolist()
        return numbers[0], dict(zip(self.columns, numbers[1:], strict=True))

    def _numbers(self, found: Prediction, of: np.ndarray) -> np.ndarray:
        chances = found.probabilities
        if chances is None:
            numbers = np.asarray(found.scores, dtype=np.float64)
        else:
            numbers = chances if chances.ndim == 1 else chances[np.arange(len(of)), self._said[of]]
        if numbers.ndim != 1 or not np.isfinite(numbers).all():
            raise InvalidInputError(
                "The model does not answer these rows with one finite number each.", "Look at what it answers: %mlp_predict"
            )
        return numbers


def shapley(asking: Asking, orders: int, seed: int) -> np.ndarray:
    """Return the Shapley value of every column for every row, float64 [rows, columns].

    Args:
        orders: random orders of the columns that are tried; for a model that adds up its columns one is exact.

    Raises:
        MissingPackageError: captum is not installed.
    """
    try:
        import torch
        from captum.attr import ShapleyValueSampling
    except ImportError as error:
        raise MissingPackageError("Explanations need captum, which is not installed.", "pip install 'jupyter_mlp[explain]'") from error

    rows, columns = len(asking.predictions), len(asking.columns)

    def forward(kept: Any, of: Any) -> Any:
        return torch.from_numpy(asking(kept.numpy() > 0.5, of.numpy()))

    with torch.random.fork_rng(devices=[]):  # the user's own random numbers go on as if nothing had been asked
        torch.manual_seed(seed)
        found: np.ndarray = (
            ShapleyValueSampling(forward)
            .attribute(
                torch.ones(rows, columns, dtype=torch.float64),
                baselines=torch.zeros(rows, columns, dtype=torch.float64),
                additional_forward_args=(torch.arange(rows),),
                n_samples=orders,
                perturbations_per_eval=max(1, _BATCH // rows),
            )
            .numpy()
        )
    return found


def usual_values(inputs: Sequence[Input], rows: pa.Table) -> dict[str, Usual]:
    """Return what is usual in each column: the median of numbers and times, the most frequent of anything else.

    The median is a value that occurs (the lower one of two). What is missing does not count; pictures are taken away.
    """
    return {one.column: _usual(one, rows.column(one.column)) for one in inputs}


def _usual(one: Input, column: pa.ChunkedArray) -> Usual:
    import pyarrow as pa
    import pyarrow.compute as pc

    if one.form == "bytes":
        return Usual(None, "without it")
    known = column.drop_null()
    if pa.types.is_floating(known.type):
        known = known.filter(pc.is_finite(known))
    if not len(known):
        return Usual(None, "where it is missing")
    if one.form == "key" or one.kind == "flag":
        counts = pc.value_counts(known.combine_chunks()).sort(order="descending", by="counts")
        return Usual(counts.field("values")[0].as_py(), "at its most frequent value")
    middle = pc.sort_indices(known)[(len(known) - 1) // 2]
    return Usual(known[middle.as_py()].as_py(), "at its median")


def _columns(rows: pa.Table) -> dict[str, Any]:
    return {name: rows.column(name) for name in rows.column_names}
