"""Step 3, evaluate, continued: which columns a model's answers come from, over a dataset and for single rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.explaining import Answer, Explained, Usual, explained
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import elsewhere, registry
from jupyter_mlp.store.workspace import current

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.serving.attributions import Asking
    from jupyter_mlp.serving.predictor import Predictor
    from jupyter_mlp.store.datasets import DatasetVersion

_KEPT = 20_000  # rows that say what is usual
_SAMPLE = 200  # rows whose effects make the whole picture
_ORDERS = 32  # of the columns that are tried per row
_SEED = 7
_MOST = 100  # rows explained one by one
_BARS = 15


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """Which columns a model's answers come from.

    Attributes:
        effects: column -> how much it moves an answer, on average over a sample of the rows (mean of the absolute Shapley
            values, in the unit of the answer; chances between 0 and 1 for classification). `intervals`: 95 % of that mean.
            Empty where single rows were asked for.
        usual: column -> the value that stands for nothing special.
        rows: the rows that were asked for, each with its effects and its sentence.
        report: path of a self-contained HTML page with everything.
    """

    reference: Ref
    model: Ref
    data: Ref
    answer: Answer
    effects: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    usual: dict[str, Usual]
    rows: tuple[Explained, ...]
    sampled: int
    figures: tuple[Figure, ...] = ()
    report: Path | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def sentences(self) -> list[str]:
        """What is said of each row."""
        return [row.sentence for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as JSON types."""
        from jupyter_mlp.core.identity import plain

        found: dict[str, Any] = plain(
            {
                "ref": self.ref,
                "kind": "explanation",
                "model": str(self.model),
                "data": str(self.data),
                "target": self.answer.target,
                "effects": self.effects,
                "intervals": self.intervals,
                "usual": {name: one.value for name, one in self.usual.items()},
                "sampled": self.sampled,
                "rows": [vars(row) for row in self.rows],
                "report": str(self.report) if self.report else None,
                "seconds": round(self.seconds, 3),
            }
        )
        return found

    def card(self) -> Card:
        """Return the sentences and the effects behind them, or the whole picture."""
        facts: list[tuple[str, Any]] = [("model", self.model.short), ("data", self.data.short)]
        if self.rows:
            facts += [(f"row {row.number}", row.sentence) for row in self.rows]
            tables = [_row_table(row, self.usual) for row in self.rows[:3]]
            notes = [f"The effects of the first 3 of {len(self.rows)} rows are shown; .rows has all."] if len(self.rows) > 3 else []
        else:
            whole = sum(self.effects.values()) or 1.0
            cells = [
                [name, value, _span(self.intervals[name]), f"{value / whole:.0%}", self.usual[name].value]
                for name, value in _largest_first(self.effects)
            ]
            tables = [Table(["column", f"moves {self.answer.target} by", "95 % interval", "share", "usual value"], cells)]
            notes = [f"The mean over {self.sampled:,} rows, beside a row of usual values. Why one row: add --row NUMBER."]
        facts.append(("report", self.report))
        return Card(f"explanation of {self.model.short}", facts, tables, self.figures, notes)


def explain(
    model: str | Shown,
    *,
    data: str | DatasetVersion,
    row: int | None = None,
    rows: str | Sequence[int] | None = None,
    unit: str = "",
) -> Explanation:
    """Say which columns a model's answers come from: over the data, or for single rows, each ending in a sentence.

    Effects are Shapley values of the model's input columns (categories are one column), sampled by captum; they add up to
    the difference between an answer and the answer for a row of usual values (medians, most frequent values of the data).
    A sentence names the column that did most, and what the model answers when that column alone is usual. The model is
    asked for that before it is said; where its answer does not bear the reason out, no reason is given.

    Args:
        model: `model:<uuid>`, `run:<id>` or a model's name.
        data: a dataset version that has the model's input columns.
        row: number of the one row to explain, from 0 in the order of the data.
        rows: numbers of several, or a text like "3,7,100:120"; at most 100.
        unit: of the target, written after its numbers: "min".

    Raises:
        NotFoundError: the model, the dataset, a column or a row is unknown.
        MissingPackageError: captum is not installed.

    Example:
        >>> mlp.explain("DelayModel", data="trips", row=17, unit="min").sentences
        ['predicted +23.1 min mostly because dep_delay = 40 (+18.9); at its median (-1) it would be +4.2 min']
    """
    from jupyter_mlp.serving.predictor import Predictor

    begun = time.perf_counter()
    wanted = _wanted(row, rows)
    workspace, model = current(), named(model)
    found = registry.load(workspace, model)
    dataset = elsewhere.load(workspace, data if isinstance(data, str) else data.ref)
    reference = Ref("model", found.uuid)
    _needed(found, dataset, wanted)
    parameters = {"model": model, "data": dataset.ref, "rows": wanted, "unit": unit}
    with workspace.activities.recording("explain", name=found.name, used=[reference, dataset.reference], parameters=parameters) as draft:
        predictor = Predictor.load(found.folder)
        try:
            made = Ref("explanation", draft.activity.id)
            explanation = _explained(predictor, dataset, wanted, unit, made, reference)
        finally:
            predictor.close()
        explanation = replace(_published(explanation, workspace.artifacts), seconds=time.perf_counter() - begun)
        draft.made.append(made)
        draft.facts.update(explanation.to_dict())
    return explanation


def _explained(predictor: Predictor, dataset: DatasetVersion, wanted: list[int], unit: str, made: Ref, model: Ref) -> Explanation:
    from jupyter_mlp.serving.attributions import Asking, shapley, usual_values

    kept, chosen = _read(dataset, predictor.recipe.columns, wanted)
    usual = usual_values(predictor.recipe.inputs, kept)
    asking = Asking(predictor, chosen, usual)
    effects = shapley(asking, _ORDERS, _SEED)
    answer = Answer(
        str(predictor.recipe.target or "the answer"),
        unit,
        predictor.task != "regression",
        bool((asking.predictions < 0).any() or _signed(predictor)),
    )
    if wanted:
        single = tuple(_single(asking, place, number, effects[place], usual, answer) for place, number in enumerate(wanted))
        shown = [_row_figure(single[0])]
        return Explanation(made, model, dataset.reference, answer, {}, {}, usual, single, 0, tuple(shown))
    means, spans = _means(asking.columns, effects)
    picture = _figure(means, answer)
    return Explanation(made, model, dataset.reference, answer, means, spans, usual, (), len(effects), (picture,))


def _single(asking: Asking, place: int, number: int, effects: Any, usual: Mapping[str, Usual], answer: Answer) -> Explained:
    prediction, changed = asking.changed(place)
    row = asking.row(place)
    shares = dict(zip(asking.columns, effects.tolist(), strict=True))
    return explained(number, row, prediction, prediction - sum(shares.values()), asking.said(place), shares, changed, usual, answer)


def _means(columns: Sequence[str], effects: Any) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    import numpy as np

    sizes = np.abs(effects)
    means = sizes.mean(axis=0)
    margins = 1.96 * sizes.std(axis=0, ddof=1) / np.sqrt(len(sizes)) if len(sizes) > 1 else np.full(len(means), np.nan)
    spans = {name: (max(0.0, m - e), m + e) for name, m, e in zip(columns, means.tolist(), margins.tolist(), strict=True)}
    return dict(zip(columns, means.tolist(), strict=True)), spans


def _read(dataset: DatasetVersion, columns: Sequence[str], wanted: Sequence[int]) -> tuple[pa.Table, pa.Table]:
    """Return up to 20,000 rows evenly spread over the data, and the rows to explain, in one pass over these columns."""
    import numpy as np
    import pyarrow as pa

    spread = np.unique(np.linspace(0, dataset.rows - 1, min(_KEPT, dataset.rows)).astype(np.int64))
    asked = np.array(wanted, dtype=np.int64) if wanted else spread[np.linspace(0, len(spread) - 1, min(_SAMPLE, len(spread))).astype(int)]
    numbers = np.union1d(spread, asked)
    parts, start = [], 0
    for batch in dataset.batches(list(columns)):
        here = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + len(batch))] - start
        if len(here):
            parts.append(pa.Table.from_batches([batch]).take(pa.array(here)))
        start += len(batch)
    held = pa.concat_tables(parts).combine_chunks().select(list(columns))
    return held.take(pa.array(np.searchsorted(numbers, spread))), held.take(pa.array(np.searchsorted(numbers, asked)))


def _wanted(row: int | None, rows: str | Sequence[int] | None) -> list[int]:
    if row is not None and rows is not None:
        raise InvalidInputError("Both row and rows were given.", "Give one of them.")
    if row is not None:
        return [row]
    found = _listed(rows) if isinstance(rows, str) else list(rows or ())
    if len(found) > _MOST:
        raise InvalidInputError(f"{len(found):,} rows are more than {_MOST}.", "Leave --rows out for the effects over the whole data.")
    return found


def _listed(text: str) -> list[int]:
    """Read "3,7,100:120"."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = (one.strip() for one in part.partition(":"))
        if not first.isdecimal() or (colon and not last.isdecimal()) or len(first + last) > 30:
            raise InvalidInputError(f"{part.strip()!r} names no rows.", "Write numbers from 0, like --rows 3,7,100:120.")
        found += range(int(first), min(int(last), int(first) + _MOST + 1)) if colon else [int(first)]
    return found


def _needed(model: Any, dataset: DatasetVersion, wanted: Sequence[int]) -> None:
    names = dataset.schema.names
    for column in model.recipe.columns:
        if column not in names:
            raise NotFoundError(f"{dataset.reference.short} has no column {column}, which {model.name} reads.", nearest(column, names))
    if not dataset.rows:
        raise InvalidInputError(f"{dataset.reference.short} has no rows to explain.", "Check the query.")
    for number in wanted:
        if not 0 <= number < dataset.rows:
            raise NotFoundError(f"{dataset.reference.short} has no row {number}.", f"Rows are 0 to {dataset.rows - 1:,}.")


def _signed(predictor: Predictor) -> bool:
    """Whether what the model learned to predict may be negative."""
    return bool((predictor.recipe.statistics.get(str(predictor.recipe.target), {}).get("min") or 0) < 0)


def _row_table(row: Explained, usual: Mapping[str, Usual]) -> Table:
    cells = [
        [name, row.row[name], usual[name].value, value, row.changed[name]]
        for name, value in sorted(row.effects.items(), key=lambda pair: -abs(pair[1]))
    ]
    cells.append(["together", None, None, row.prediction - row.usual, row.usual])
    return Table(["column", "value", "usual value", "effect", "answer if usual"], cells, f"row {row.number}: {row.sentence}")


def _row_figure(row: Explained) -> Figure:
    from jupyter_mlp.reports import charts

    largest = sorted(row.effects.items(), key=lambda pair: -abs(pair[1]))[:_BARS]
    named = [(f"{name} = {row.row[name]}"[:40], value) for name, value in largest]
    return charts.bars(f"Row {row.number}", named, "effect on the answer", 0.0, row.sentence)


def _figure(effects: Mapping[str, float], answer: Answer) -> Figure:
    from jupyter_mlp.reports import charts

    largest = _largest_first(effects)
    said = f"{largest[0][0]} moves the answers most, by {largest[0][1]:.3g} on average"
    return charts.bars("What moves the answers", largest[:_BARS], f"mean effect on {answer.target}", None, said)


def _largest_first(effects: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(effects.items(), key=lambda pair: -pair[1])


def _published(explanation: Explanation, artifacts: Any) -> Explanation:
    from jupyter_mlp.reports.pages import page

    key = artifacts.put(page(explanation.card()).encode(), ".html")
    return replace(explanation, report=artifacts.path(key, ".html"))


def _span(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.4g} to {pair[1]:.4g}"
