"""The language of recipes: one line for a column, several, or a pattern; steps from left to right.

    dep_delay:      impute median | scale
    carrier:        one-hot 20
    dest:           vocabulary 100 | embedding
    *_time:         time America/New_York      # whatever no line names is left out
    arr_delay:      target

A name in quotes may hold anything. An exact name goes before a pattern, an earlier pattern before a later one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.core.steps import ALONE, WORDS

_TOKEN = re.compile(r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[:,|])|(?P<comment>\#.*)|(?P<word>[^\s:,|\#"']+))""")
_PLAIN = re.compile(r"""[^\s:,|#"']+""")


@dataclass(frozen=True)
class Word:
    """A word of the text, and where it stands: line and column, counted from 1."""

    text: str
    line: int
    column: int
    quoted: bool = False

    @property
    def place(self) -> str:
        """Where it stands, as a refusal begins."""
        return f"Line {self.line}, column {self.column}"


@dataclass(frozen=True)
class Said:
    """One step as it was written."""

    word: Word
    arguments: tuple[Word, ...] = ()

    @property
    def name(self) -> str:
        """The step's word."""
        return self.word.text

    def __str__(self) -> str:
        return " ".join([self.name, *(quoted(one.text, one.quoted) for one in self.arguments)])


@dataclass(frozen=True)
class Line:
    """Some columns, and the steps that they take."""

    columns: tuple[Word, ...]
    steps: tuple[Said, ...]

    def __str__(self) -> str:
        names = [quoted(one.text, force=one.quoted) for one in self.columns]
        return f"{', '.join(names)}: {' | '.join(map(str, self.steps))}"


@dataclass(frozen=True)
class Definition:
    """A recipe as it was written, for no data yet.

    Example:
        >>> parse("carrier:one-hot 20").text
        'carrier: one-hot 20'
    """

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The definition in its one spelling: comments and spaces are no part of a recipe's identity."""
        return "\n".join(map(str, self.lines))

    def line_for(self, column: str) -> Line | None:
        """Return the line that says what a column becomes: an exact name first, then the first pattern."""
        named = (line for line in self.lines for one in line.columns if one.text == column)
        fitting = (line for line in self.lines for one in line.columns if not one.quoted and fnmatchcase(column, one.text))
        return next(named, None) or next(fitting, None)


def parse(text: str) -> Definition:
    """Read a recipe.

    Raises:
        InvalidInputError: a sentence with line and column, and the nearest known word.
    """
    lines = [_line(_words(line, number)) for number, line in enumerate(text.splitlines(), 1) if _words(line, number)]
    if not lines:
        raise InvalidInputError("The recipe says nothing.", "Write one line for each column, like dep_delay: impute median | scale")
    seen: dict[str, Word] = {}
    for name in (name for line in lines for name in line.columns):
        if name.text in seen:
            raise InvalidInputError(f"{name.place}: {name.text} was said in line {seen[name.text].line} already.", "Keep one of the two.")
        seen[name.text] = name
    return Definition(tuple(lines))


def spelled(columns: Mapping[str, str]) -> str:
    """Return columns and steps given as a mapping as the text of a recipe."""
    return "\n".join(f"{name if '*' in name or '?' in name else quoted(name)}: {steps}" for name, steps in columns.items())


def quoted(text: str, force: bool = False) -> str:
    """Return a name as a recipe's text spells it."""
    if _PLAIN.fullmatch(text) and not force:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _words(line: str, number: int) -> list[Word]:
    found = []
    at = 0
    while line[at:].strip():
        match = _TOKEN.match(line, at)
        if match is None:
            column = at + len(line[at:]) - len(line[at:].lstrip()) + 1
            raise InvalidInputError(f"Line {number}, column {column}: the quotation is never closed.", "Close it.")
        at = match.end()
        if match["comment"] is None:
            kind = str(match.lastgroup)
            text = match[kind]
            if kind == "quoted":
                text = re.sub(r"\\(.)", r"\1", text[1:-1])
            found.append(Word(text, number, match.start(kind) + 1, kind == "quoted"))
    return found


def _line(words: list[Word]) -> Line:
    colon = next((at for at, word in enumerate(words) if _is(word, ":")), None)
    if colon is None:
        raise InvalidInputError(
            f"{words[-1].place}: there is no colon after {words[-1].text}.", f"Write {quoted(words[0].text)}: and its steps, like scale"
        )
    columns = []
    for part in _split(words[:colon], ",", words[colon], "a column"):
        if len(part) > 1:
            raise InvalidInputError(f"{part[1].place}: {part[1].text} is one word too many.", "Put a name with spaces in quotes.")
        columns.append(part[0])
    steps = [_step(part) for part in _split(words[colon + 1 :], "|", words[-1], "a step")]
    alone = next((step for step in steps if step.name in ALONE), None)
    if alone is not None and len(steps) > 1:
        raise InvalidInputError(f"{alone.word.place}: {alone.name} stands alone on its line.", "Leave the other steps out.")
    return Line(tuple(columns), tuple(steps))


def _split(words: list[Word], mark: str, end: Word, what: str) -> list[list[Word]]:
    parts: list[list[Word]] = [[]]
    for word in words:
        if _is(word, mark):
            if not parts[-1]:
                raise InvalidInputError(f"{word.place}: {what} is missing before {mark}", "Write it, or leave the mark out.")
            parts.append([])
        elif not word.quoted and word.text in ":,|":
            raise InvalidInputError(f"{word.place}: {word.text} stands where {what} was expected.", "Steps are joined by |, columns by ,")
        else:
            parts[-1].append(word)
    if not parts[-1]:
        raise InvalidInputError(f"{end.place}: {what} is missing after {end.text}", f"Steps: {', '.join(WORDS)}.")
    return parts


def _step(words: list[Word]) -> Said:
    if words[0].text not in WORDS or words[0].quoted:
        raise InvalidInputError(f"{words[0].place}: there is no step {words[0].text}.", nearest(words[0].text, WORDS))
    return Said(words[0], tuple(words[1:]))


def _is(word: Word, mark: str) -> bool:
    return word.text == mark and not word.quoted
