"""From the text of a recipe and the columns of a dataset to one chain of steps per column: checked, then learned.

A chain begins with what its column can be read as (a number, a key, bytes) and every step says what it reads and gives.
What a step learns comes from the column's facts; none looks at the rows again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.recipe_text import Definition, Said, Word, quoted
from jupyter_mlp.core.statistics import Facts, Need, tidy
from jupyter_mlp.core.step_arguments import settings_of
from jupyter_mlp.core.steps import WORDS, Step
from jupyter_mlp.core.values import FORMS, HOLDS, TIMES, kind_of

if TYPE_CHECKING:
    import pyarrow as pa

FREQUENT = 64  # keys that get a feature of their own where nobody says how many, and that drift is judged by
_IDENTIFIES, _ENOUGH = 0.95, 200  # a text that differs in so many of at least so many rows names the row
_DEFAULTS = {"number": "impute mean | scale", "flag": "impute 0", "text": f"one-hot {FREQUENT}", "time": "time"}


@dataclass(frozen=True)
class Chain:
    """The steps of one column, not learned yet.

    Attributes:
        kind, form: what the column holds and how it is read (see `values`).
        said: the steps as text. `default`: whether nobody chose them.
    """

    column: str
    kind: str
    form: str
    steps: tuple[Step, ...]
    said: str
    default: bool = False

    @property
    def need(self) -> Need:
        """What must be measured of the column."""
        words = {step["step"] for step in self.steps}
        most = max([FREQUENT, *(step["most"] for step in self.steps if step["step"] == "vocabulary")])
        counted = (self.form == "key" and "tokens" not in words) or self.kind == "flag"
        return Need(self.column, self.kind, self.form == "number", "log" in words, most if counted else 0)

    def names_rows(self, facts: Facts) -> bool:
        """Whether a text is different in nearly every row, so that by default nothing is learned from it."""
        present = facts.rows - facts.missing
        return self.default and self.kind == "text" and present >= _ENOUGH and facts.distinct > max(FREQUENT, _IDENTIFIES * present)

    def learned(self, facts: Facts) -> tuple[Step, ...]:
        """Return the steps with the numbers and words that the data gave them."""
        return tuple(_numbers(self.steps, facts) if self.form == "number" else _keys(self.steps, facts))


def chains_of(definition: Definition, schema: pa.Schema, target: str | None) -> list[Chain]:
    """Return one chain for every column that the definition uses, in the order of the columns.

    Raises:
        NotFoundError: the definition names a column that there is not.
        InvalidInputError: a step cannot follow another, or not this kind of column; the message says where.
    """
    _known(definition, schema.names)
    found = []
    for column in schema:
        line = definition.line_for(column.name)
        if line is None or column.name == target or line.steps[0].name in ("drop", "target"):
            continue
        found.append(_chain(column, line.steps))
    if not found:
        raise InvalidInputError("There is no column to learn from beside the target.", "Select more columns in the query, or name them.")
    return found


def target_of(definition: Definition, target: str | None, task: str | None) -> tuple[str | None, str | None]:
    """Return the target and its task, said in the definition or asked for beside it.

    Raises:
        InvalidInputError: both name one, and not the same.
    """
    lines = [line for line in definition.lines if line.steps[0].name == "target"]
    if not lines:
        return target, task
    word = lines[0].columns[0]
    if len(lines) > 1 or len(lines[0].columns) > 1:
        other = lines[1].columns[0] if len(lines) > 1 else lines[0].columns[1]
        raise InvalidInputError(f"{other.place}: {word.text} is the target already.", "A recipe has one target.")
    if target not in (None, word.text):
        raise InvalidInputError(f"The recipe's target is {word.text}, not {target}.", "Leave --target out, or change the recipe.")
    said = lines[0].steps[0].arguments
    if said and task not in (None, said[0].text):
        raise InvalidInputError(f"The recipe's task is {said[0].text}, not {task}.", "Leave --task out, or change the recipe.")
    settings_of(lines[0].steps[0], "", "")
    return word.text, said[0].text if said else task


def _known(definition: Definition, names: Sequence[str]) -> None:
    from fnmatch import fnmatchcase

    for word in (word for line in definition.lines for word in line.columns):
        pattern = not word.quoted and any(mark in word.text for mark in "*?[")
        if word.text in names or (pattern and (word.text == "*" or any(fnmatchcase(name, word.text) for name in names))):
            continue
        told = "no column fits" if pattern else "the data has no column"
        raise NotFoundError(f"{word.place}: {told} {word.text}.", nearest(word.text, names))


def _chain(column: pa.Field, said: tuple[Said, ...]) -> Chain:
    kind = kind_of(column)
    default = said[0].name == "default"
    if default:
        said = _default(kind, said[0].word, quoted(column.name))
    form = _form(kind, said)
    steps = list(_checked(said, kind, form))
    return Chain(column.name, kind, form, tuple(steps), " | ".join(map(str, said)), default)


def _default(kind: str, place: Word, name: str) -> tuple[Said, ...]:
    if kind == "bytes":
        raise InvalidInputError(
            f"{place.place}: nothing is known by itself about the bytes in {name}.", f"Write {name}: image 32x32, or drop."
        )
    text = _DEFAULTS["time" if kind in TIMES else {"whole": "number"}.get(kind, kind)]
    parts = [part.split() for part in text.split(" | ")]
    return tuple(Said(_at(place, part[0]), tuple(_at(place, one) for one in part[1:])) for part in parts)


def _at(place: Word, text: str) -> Word:
    return Word(text, place.line, place.column)


def _form(kind: str, said: Sequence[Said]) -> str:
    """As what the column is read: the form that the first step which leaves no choice reads."""
    can = FORMS[kind]
    for step in said:
        if step.name == "bucket":
            break
        reads = [form for form in WORDS[step.name][0] if form != "index"]
        if len(reads) == 1 or step.name in ("one-hot", "embedding"):
            form = "key" if "key" in reads else reads[0]
            if form not in can:
                raise _misfit(step, f"reads {_SAID[form]}, and the column holds {HOLDS[kind]}", kind)
            return form
    return can[0] if "number" not in can else "number"


_SAID = {"number": "numbers", "key": "keys", "bytes": "bytes", "index": "an index"}


def _misfit(step: Said, why: str, kind: str) -> InvalidInputError:
    hint = {
        "number": "Put bucket before it, or cast the column to text in the query.",
        "text": "Text takes one-hot, vocabulary, hash, embedding or tokens.",
        "bytes": "Bytes take image HEIGHTxWIDTH.",
    }.get(kind, "Times take time, cyclic, scale or bucket." if kind in TIMES else "Steps for it: scale, bucket, one-hot.")
    return InvalidInputError(f"{step.word.place}: {step.name} {why}.", hint)


def _checked(said: Sequence[Said], kind: str, form: str) -> Iterator[Step]:
    """The steps with their settings, each following what it may follow; implied ones are added."""
    now, before = form, ""
    for at, step in enumerate(said):
        reads, gives = WORDS[step.name]
        if now not in reads:
            if now in ("features", "index") and before:
                raise _after(step, before, now)
            raise _misfit(step, f"reads {' or '.join(_SAID[one] for one in reads)}, and the column holds {HOLDS[kind]}", kind)
        if step.name == "impute" and at:
            raise InvalidInputError(
                f"{step.word.place}: impute comes after {before}.", "Fill the gaps first: impute is a chain's first step."
            )
        if before == "scale" and step.name in ("log", "scale"):
            raise InvalidInputError(f"{step.word.place}: {step.name} comes after scale.", f"Write log | scale, or leave {step.name} out.")
        settings = settings_of(step, kind, now)
        if step.name in ("one-hot", "embedding") and now == "key":
            yield {"step": "vocabulary", "most": settings.pop("most")}
        elif step.name in ("one-hot", "embedding") and settings.pop("most", None) is not None and step.arguments:
            raise InvalidInputError(f"{step.arguments[0].place}: {before} says already how many.", f"Leave {step.arguments[0].text} out.")
        elif step.name == "bucket" and "edges" in settings and before in ("log", "scale"):
            raise InvalidInputError(f"{step.word.place}: the edges are in the column's own units.", f"Leave {before} out.")
        yield {"step": step.name, **settings}
        now, before = now if gives == "same" else gives, step.name
    if now == "index" and before == "bucket":
        yield {"step": "one-hot"}
    elif now in ("index", "key"):
        raise InvalidInputError(
            f"{said[-1].word.place}: {before} alone makes no number.", f"Write {said[-1]} | one-hot, or {said[-1]} | embedding."
        )
    elif now == "number":
        yield {"step": "number"}


def _after(step: Said, before: str, now: str) -> InvalidInputError:
    what = "makes features, so nothing follows it" if now == "features" else "makes an index, which one-hot and embedding read"
    return InvalidInputError(f"{step.word.place}: {step.name} cannot follow {before}: {before} {what}.", f"Leave {step.name} out.")


def _numbers(steps: Sequence[Step], facts: Facts) -> Iterator[Step]:
    moments, logged = facts.moments, facts.log
    size = 0
    bucketed = any(step["step"] == "bucket" for step in steps)
    for step in steps:
        word = step["step"]
        if word == "impute":
            value = _filling(step["with"], facts)
            moments, logged = moments.mixed(facts.missing, value), logged.mixed(facts.missing, math.copysign(math.log1p(abs(value)), value))
            yield {"step": word, "value": value}
        elif word == "log":
            moments = logged
            if not bucketed:  # which bucket a number falls into is the same before and after it
                yield step
        elif word == "scale" and not bucketed:
            yield {"step": word, **_scaling(step["to"], moments)}
        elif word == "bucket":
            edges = step.get("edges") or facts.edges(step["parts"])
            size = len(edges) + 2
            yield {"step": word, "edges": edges}
        elif word == "time":
            yield {"step": word, **_scaling("standard", moments), "zone": step["zone"]}
        elif word != "scale":
            yield {**step, "size": size} if word in ("one-hot", "embedding") else step


def _filling(how: Any, facts: Facts) -> float:
    if isinstance(how, float):
        return how
    if not facts.moments.count:
        return 0.0
    return facts.quantile(0.5) if how == "median" else tidy(facts.moments.mean, facts.moments.std)


def _scaling(to: str, moments: Any) -> dict[str, float]:
    if to == "min-max":
        return {"shift": moments.low, "by": moments.high - moments.low or 1.0}
    return {"shift": tidy(moments.mean, moments.std), "by": tidy(moments.std, moments.std)}


def _keys(steps: Sequence[Step], facts: Facts) -> Iterator[Step]:
    counted = dict(facts.values)
    size = 0
    for step in steps:
        word = step["step"]
        if word == "impute":
            value = step["with"] if step["with"] is not None else next(iter(counted), "")
            if facts.missing:
                counted[value] = counted.get(value, 0) + facts.missing
            yield {"step": word, "value": value}
        elif word == "vocabulary":
            ordered = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[: step["most"]]
            size = len(ordered) + 1
            yield {"step": word, "values": [key for key, _ in ordered]}
        elif word == "hash":
            size = step["size"]
            yield step
        else:
            yield {**step, "size": size} if word in ("one-hot", "embedding") else step
