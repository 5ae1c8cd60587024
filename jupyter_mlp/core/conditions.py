"""Conditions on rows of named values, as people type them: `val_mae < 12 and model = DelayModel and state != failed`.

Parsed and compared here, never evaluated as code. A row that lacks the value does not fulfil a condition on it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*([\w./-]+)\s*(<=|>=|!=|==|<|>|=)\s*(\"[^\"]*\"|'[^']*'|[^\s\"']+)\s*")


@dataclass(frozen=True)
class Condition:
    """One comparison."""

    name: str
    sign: str
    value: Any

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row fulfils it; a number is compared with numbers only, text without regard to what follows an @."""
        found = row.get(self.name)
        if found is None:
            return False
        if isinstance(self.value, float):
            return isinstance(found, int | float) and _OPERATORS[self.sign](float(found), self.value)
        text = str(found)
        same = text == self.value or text.split("@")[0] == self.value
        if self.sign in ("=", "=="):
            return same
        return not same if self.sign == "!=" else _OPERATORS[self.sign](text, self.value)


def parse(text: str) -> list[Condition]:
    """Return the conditions of a text, joined by `and`.

    Raises:
        InvalidInputError: it is no such text; the message says from where on.
    """
    found = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise InvalidInputError(
                f"{part!r} is no condition.", 'Write NAME SIGN VALUE, joined by and: "val_mae < 12 and state = finished".'
            )
        found.append(Condition(match[1], match[2], _value(match[3])))
    return found


def known(name: str, rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Refuse a name that no row has.

    Raises:
        NotFoundError: the hint names the nearest.
    """
    names = sorted({key for row in rows for key in row})
    if rows and name not in names:
        raise NotFoundError(f"{what} has no {name}.", nearest(name, names))


def _value(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    try:
        return float(text)
    except ValueError:
        return text
