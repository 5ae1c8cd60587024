"""Why a model answers a row as it does, in one sentence whose every number was asked of the model.

    predicted +23 min mostly because dep_delay = 40 (+19); at its median (-1) it would be +4

The answer; the row's value of one column; the difference that this column makes; its usual value, and the answer with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import shown

MOSTLY = 0.5  # of all that pushes the answer away from the usual one, to say "mostly"
_CANCEL = 0.1  # of all effects together: below it, what is left of them has no single reason
_HOLDS = 0.5  # of the attributed effect that must show when the column is changed alone


@dataclass(frozen=True)
class Usual:
    """The value that stands for "nothing special" in a column: `name` says which it is, as "its median"."""

    value: Any
    name: str


@dataclass(frozen=True)
class Answer:
    """How the numbers of one model are said.

    Attributes:
        target: what is predicted. `unit`: written after the number.
        percent: answers are chances. `signed`: they may lie on either side of zero, so a plus is written too.
    """

    target: str
    unit: str = ""
    percent: bool = False
    signed: bool = False

    def text(self, value: float, digits: int) -> str:
        """Return an answer as text: +23 min, 0.4, 87 %."""
        return _number(value, digits, self.percent, self.signed) + (" %" if self.percent else f" {self.unit}" if self.unit else "")

    def change(self, value: float, digits: int) -> str:
        """Return a difference of two answers as text: +19, -12 points."""
        return _number(value, digits, self.percent, True) + (" points" if self.percent else "")

    def digits(self, *values: float) -> int:
        """Return how many digits after the point tell these answers apart: three figures of the largest."""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) * (100 if self.percent else 1)
        return 0 if largest >= 100 else min(12, 2 - math.floor(math.log10(largest))) if largest > 1e-12 else 2


@dataclass(frozen=True)
class Explained:
    """One row's answer, taken apart.

    Attributes:
        number: of the row, from 0. `row`: its input columns.
        prediction: the model's answer. `usual`: its answer for the usual row.
        said: the class that `prediction` is the chance of; None in a regression.
        effects: column -> its Shapley value; together they make `prediction - usual`.
        changed: column -> the model's answer when this column alone is usual.
        column: the one that the sentence names; None when no single column explains the answer.
        sentence: what a person is told.
    """

    number: int
    row: Mapping[str, Any]
    prediction: float
    usual: float
    said: Any
    effects: Mapping[str, float]
    changed: Mapping[str, float]
    column: str | None
    sentence: str


def explained(
    number: int,
    row: Mapping[str, Any],
    prediction: float,
    usual: float,
    said: Any,
    effects: Mapping[str, float],
    changed: Mapping[str, float],
    usuals: Mapping[str, Usual],
    answer: Answer,
) -> Explained:
    """Return a row's explanation; a reason is only given where changing that one column bears it out."""
    column = reason(prediction, usual, effects, changed)
    sentence = _sentence(row, prediction, usual, said, effects, changed, column, usuals, answer)
    return Explained(number, row, prediction, usual, said, effects, changed, column, sentence)


def reason(prediction: float, usual: float, effects: Mapping[str, float], changed: Mapping[str, float]) -> str | None:
    """Return the column to name, or None.

    It has the largest effect in the direction in which the answer differs from the usual one. It is named only if the
    model agrees when asked: changing this column alone undoes at least half of its effect, and no other column undoes more.
    """
    away = prediction - usual
    whole = sum(abs(value) for value in effects.values())
    if not whole or abs(away) < _CANCEL * whole or whole < 1e-6 * max(abs(prediction), abs(usual)):
        return None
    side = math.copysign(1.0, away)
    named = max(effects, key=lambda column: effects[column] * side)
    undone = {column: (prediction - value) * side for column, value in changed.items()}
    enough = undone[named] >= _HOLDS * effects[named] * side and undone[named] > 0
    return named if enough and undone[named] >= max(undone.values()) * (1 - 1e-6) else None


def _sentence(
    row: Mapping[str, Any],
    prediction: float,
    usual: float,
    said: Any,
    effects: Mapping[str, float],
    changed: Mapping[str, float],
    column: str | None,
    usuals: Mapping[str, Usual],
    answer: Answer,
) -> str:
    of = f" for {answer.target} = {shown(said)}" if answer.percent else ""
    if column is None:
        digits = answer.digits(prediction, usual)
        both = f"predicted {answer.text(prediction, digits)}{of}, a usual row {answer.text(usual, digits)}"
        return f"{both}: no single column explains the difference"
    digits = max(answer.digits(prediction, changed[column]), answer.digits(prediction - changed[column]) - 1)
    side = math.copysign(1.0, prediction - usual)
    pushing = sum(value * side for value in effects.values() if value * side > 0)
    how = "mostly" if effects[column] * side >= MOSTLY * pushing else "most of all"
    instead = usuals[column]
    return (
        f"predicted {answer.text(prediction, digits)}{of} {how} because {column} = {_value(row[column])} "
        f"({answer.change(prediction - changed[column], digits)}); "
        f"{instead.name} ({_value(instead.value)}) it would be {answer.text(changed[column], digits)}"
    )


def _value(value: Any) -> str:
    text = "missing" if value is None else shown(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _number(value: float, digits: int, percent: bool, signed: bool) -> str:
    text = f"{value * 100 if percent else value:{'+' if signed else ''},.{digits}f}"
    return text if any(one in "123456789" for one in text) else text.lstrip("+-")  # no sign before a zero
