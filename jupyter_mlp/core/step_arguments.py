"""The arguments of steps: read from the words of a recipe, each refusal with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import clock
from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.core.steps import UNITS
from jupyter_mlp.core.values import TIMES

if TYPE_CHECKING:
    from jupyter_mlp.core.recipe_text import Said, Word

TASKS = ("regression", "binary", "multiclass")
MOST_KEYS = 1_000_000
_MOST_FEATURES = 10_000
_FREQUENT = 64


def settings_of(said: Said, kind: str, form: str) -> dict[str, Any]:
    """Return the settings of one step.

    Args:
        kind: what the column holds. `form`: what the step is given.

    Raises:
        InvalidInputError: an argument is missing, too many, or none that the step takes.
    """
    return _READ[said.name](said, kind, form)


def _impute(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _one(said, "mean, median or a number" if form == "number" else "most-frequent or a text")
    if form == "key":
        return {"with": None if word.text == "most-frequent" and not word.quoted else word.text}
    if word.text in ("mean", "median"):
        return {"with": word.text}
    return {"with": _number(word, ("mean", "median"))}


def _scale(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _maybe(said)
    return {"to": "standard" if word is None else _among(word, ("standard", "min-max"))}


def _log(said: Said, kind: str, form: str) -> dict[str, Any]:
    _no_more(said, 0)
    return {}


def _bucket(said: Said, kind: str, form: str) -> dict[str, Any]:
    if len(said.arguments) <= 1:
        return {"parts": _whole(_one(said, "a number of buckets, or two edges and more"), 2, 1000)}
    edges = [_number(word) for word in said.arguments]
    for low, high, word in zip(edges, edges[1:], said.arguments[1:], strict=False):
        if low >= high:
            raise InvalidInputError(f"{word.place}: the edge {word.text} is not above the one before it.", "Give them in ascending order.")
    return {"edges": edges}


def _cyclic(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _one(said, "a period, such as 24" if kind not in TIMES else f"one of {', '.join(UNITS)}", more=1)
    if kind in TIMES:
        unit = _among(word, tuple(UNITS))
        return {"period": UNITS[unit], "unit": unit, "zone": _zone(said, 1, kind)}
    _no_more(said, 1)
    period = _number(word)
    if period <= 0:
        raise InvalidInputError(f"{word.place}: {word.text} is no period.", "Give a number above 0, such as 24.")
    return {"period": period, "zone": None}


def _time(said: Said, kind: str, form: str) -> dict[str, Any]:
    if kind not in TIMES:
        raise InvalidInputError(
            f"{said.word.place}: time reads times, and this column holds none.", "Numbers take cyclic PERIOD, such as cyclic 24."
        )
    return {"zone": _zone(said, 0, kind)}


def _vocabulary(said: Said, kind: str, form: str) -> dict[str, Any]:
    return {"most": _whole(_one(said, "how many words"), 1, MOST_KEYS)}


def _hash(said: Said, kind: str, form: str) -> dict[str, Any]:
    return {"size": _whole(_one(said, "how many places"), 1, MOST_KEYS) + 1}


def _one_hot(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _maybe(said)
    return {"most": _FREQUENT if word is None else _whole(word, 1, _MOST_FEATURES if said.name == "one-hot" else MOST_KEYS)}


def _tokens(said: Said, kind: str, form: str) -> dict[str, Any]:
    if kind != "text":
        raise InvalidInputError(f"{said.word.place}: tokens reads text.", "Leave it out, or cast the column to text in the query.")
    length = _whole(_one(said, "how many words of a text are kept", more=1), 1, _MOST_FEATURES)
    return {"length": length, "size": (_whole(said.arguments[1], 1, MOST_KEYS) if len(said.arguments) > 1 else 10_000) + 1}


def _image(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _one(said, "a size, such as 32x32", more=1)
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", word.text)
    if not found or not int(found[1]) or not int(found[2]):
        raise InvalidInputError(f"{word.place}: {word.text} is no size of a picture.", "Write HEIGHTxWIDTH, such as 32x32.")
    colours = _among(said.arguments[1], ("rgb", "gray")) if len(said.arguments) > 1 else "rgb"
    return {"height": int(found[1]), "width": int(found[2]), "channels": 3 if colours == "rgb" else 1}


def _target(said: Said, kind: str, form: str) -> dict[str, Any]:
    word = _maybe(said)
    return {"task": None if word is None else _among(word, TASKS)}


def _one(said: Said, what: str, more: int = 0) -> Word:
    if not said.arguments:
        raise InvalidInputError(f"{said.word.place}: {said.name} needs {what}.", f"Write it after {said.name}.")
    _no_more(said, 1 + more)
    return said.arguments[0]


def _maybe(said: Said) -> Word | None:
    _no_more(said, 1)
    return said.arguments[0] if said.arguments else None


def _no_more(said: Said, count: int) -> None:
    if len(said.arguments) > count:
        word = said.arguments[count]
        raise InvalidInputError(f"{word.place}: {said.name} takes no {word.text} here.", "Leave it out; steps are joined by |")


def _among(word: Word, known: tuple[str, ...]) -> str:
    if word.text not in known:
        raise InvalidInputError(f"{word.place}: {word.text} is none of {', '.join(known)}.", nearest(word.text, known))
    return word.text


def _number(word: Word, known: tuple[str, ...] = ()) -> float:
    try:
        found = float(word.text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInputError(f"{word.place}: {word.text} is no number.", nearest(word.text, known) if known else "Write it like 0.5.")
    return found


def _whole(word: Word, low: int, high: int) -> int:
    if not re.fullmatch(r"\d{1,9}", word.text) or not low <= int(word.text) <= high:
        raise InvalidInputError(f"{word.place}: {word.text} is no whole number from {low} to {high:,}.", "Write it in digits.")
    return int(word.text)


def _zone(said: Said, at: int, kind: str) -> str | None:
    _no_more(said, at + 1)
    if len(said.arguments) <= at:
        return None
    word = said.arguments[at]
    if kind != "instant":
        raise InvalidInputError(
            f"{word.place}: the column's times have no zone, so they are on the wall already.", f"Leave {word.text} out."
        )
    try:
        return clock.check(word.text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{word.place}: {error.message}.", error.hint) from None


_READ: dict[str, Callable[[Any, str, str], dict[str, Any]]] = {
    "impute": _impute,
    "log": _log,
    "scale": _scale,
    "bucket": _bucket,
    "cyclic": _cyclic,
    "time": _time,
    "vocabulary": _vocabulary,
    "hash": _hash,
    "one-hot": _one_hot,
    "embedding": _one_hot,
    "tokens": _tokens,
    "image": _image,
    "target": _target,
    "drop": _log,
    "default": _log,
}
