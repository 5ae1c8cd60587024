"""Fitting: a definition meets the columns of a dataset, says what must be measured, and learns its numbers from that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import steps, values
from jupyter_mlp.core.chains import Chain, chains_of, target_of
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.recipe import Input, Recipe
from jupyter_mlp.core.recipe_text import Definition, quoted
from jupyter_mlp.core.statistics import Facts, Need, measure
from jupyter_mlp.core.step_arguments import TASKS

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_CLASSES = 100
_MOST_INDICES = 2**24  # whole numbers that float32 holds exactly


@dataclass(frozen=True)
class Unfitted:
    """A definition for the columns of one dataset, its numbers not learned yet.

    Attributes:
        text: its one spelling, target and task included: what it is known by.
    """

    text: str
    chains: tuple[Chain, ...]
    target: str | None = None
    target_kind: str = ""
    task: str | None = None

    @property
    def needs(self) -> list[Need]:
        """What must be measured, the target included."""
        return [*(chain.need for chain in self.chains), *([self._target_need] if self.target else [])]

    @property
    def _target_need(self) -> Need:
        counted = self.target_kind in ("whole", "flag", "text", "date")
        numbers = self.target_kind in ("number", "whole")
        return Need(str(self.target), self.target_kind, numbers, most=_MOST_CLASSES + 1 if counted else 0)

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Recipe:
        """Return the recipe with its numbers learned from the rows, in one pass; rows without a target do not count."""
        return self.learned(measure(batches, self.needs, self.target))

    def learned(self, facts: Mapping[str, Facts]) -> Recipe:
        """Return the recipe with its numbers learned from what was measured.

        Raises:
            InvalidInputError: there is no row with a target, or the target's values do not fit the task.
        """
        rows = next(iter(facts.values())).rows
        if rows == 0:
            raise InvalidInputError("There is no row to learn from.", "Check the query: every row lacks the target, or there is none.")
        named = [chain for chain in self.chains if chain.names_rows(facts[chain.column])]
        kept = [chain for chain in self.chains if chain not in named]
        notes = [f"{one.column} is left out: it differs in nearly every row, so it names rows and predicts nothing." for one in named]
        if not kept:
            raise InvalidInputError(f"Nothing is left to learn from: {notes[0]}", "Select more columns in the query.")
        task, classes = self._decided(facts) if self.target else (None, None)
        inputs = tuple(Input(one.column, one.kind, one.form, one.learned(facts[one.column]), one.said) for one in kept)
        for one in inputs:
            if steps.cardinality(one.steps) > _MOST_INDICES:
                raise InvalidInputError(f"{one.column} has too many values for an index.", "Write hash N | embedding.")
        statistics = {chain.column: facts[chain.column].described(chain.kind) for chain in kept if _judged(chain)}
        if self.target:
            statistics[self.target] = _of_target(facts[self.target], self.target_kind)
        return Recipe(inputs, self.target, task, classes, statistics, rows, tuple(notes))

    def _decided(self, facts: Mapping[str, Facts]) -> tuple[str, tuple[Any, ...] | None]:
        """Decide the task from the target's values, or check the one that was asked for."""
        found = facts[str(self.target)]
        number = self.target_kind in ("number", "whole")
        task = self.task or (
            "regression" if number and (not found.distinct or found.distinct > 2) else "binary" if found.distinct <= 2 else "multiclass"
        )
        if task == "regression":
            if not number:
                raise InvalidInputError(
                    f"The target holds {values.HOLDS[self.target_kind]}, which no regression can learn.",
                    "Use --task multiclass, or cast it to a number.",
                )
            return task, None
        if not found.distinct or found.distinct > _MOST_CLASSES:
            raise InvalidInputError(
                f"The target has too many values for {task} (over {_MOST_CLASSES}, or not whole).",
                "Use --task regression, or a target with fewer values.",
            )
        if task == "binary" and found.distinct > 2:
            raise InvalidInputError(f"The target has {found.distinct} values; binary takes 2.", "Use --task multiclass.")
        known = [value for value, _ in found.values]
        classes: list[Any] = sorted(map(int, known)) if self.target_kind == "whole" else sorted(known)
        return task, tuple(classes)


def prepared(definition: Definition, schema: pa.Schema, target: str | None = None, task: str | None = None) -> Unfitted:
    """Return a definition for a dataset's columns, checked.

    Args:
        target, task: where the definition says none.

    Raises:
        NotFoundError: there is no such column; the hint names the nearest.
        InvalidInputError: a step does not fit its column, or the task does not fit; the message says where.
    """
    target, task = target_of(definition, target, task)
    if target is not None and target not in schema.names:
        raise NotFoundError(f"The data has no column {target}.", nearest(target, schema.names))
    if task is not None and task not in TASKS:
        raise InvalidInputError(f"{task!r} is no task.", f"Tasks: {', '.join(TASKS)}.")
    kind = values.kind_of(schema.field(target)) if target is not None else ""
    chains = chains_of(definition, schema, target)
    said = [str(line) for line in definition.lines if line.steps[0].name != "target"]
    goal = [f"{quoted(target)}: target" + (f" {task}" if task else "")] if target is not None else []
    return Unfitted("\n".join([*said, *goal]), tuple(chains), target, kind, task)


def _judged(chain: Chain) -> bool:
    """Whether drift of the column is judged later: its numbers or keys were looked at."""
    return chain.need.numbers or chain.need.most > 0


def _of_target(facts: Facts, kind: str) -> dict[str, Any]:
    if kind not in ("number", "whole"):
        return facts.described(kind)
    listed = facts.values if facts.distinct <= _MOST_CLASSES else ()
    more = {"values": [value for value, _ in listed], "counts": [count for _, count in listed]} if listed else {}
    return {**replace(facts, values=()).described(kind), **more}
