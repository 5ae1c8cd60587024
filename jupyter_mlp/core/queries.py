"""A Spark SQL text as we see it: which tables it reads and where they stand, what makes two texts the same question.

Only table names are ever rewritten; everything else goes to Spark as the user wrote it. `core.sql_reader` makes a `Query`
from a text (with sqlglot); what is here needs no parser, so that a text that was read before is answered without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

UNREADABLE = "the text is beyond our reader, so what it reads was found by its words only: there may be more"
ANOTHER_MOMENT = "another moment each time"
READER = 4  # counts up when the same text is read differently; what was kept of older readers is not used

CERTAIN = -1  # in `Query.bare` instead of the place of a table: the text itself gives a column of that name

_MOMENT = re.compile(r"\s*(now|today|tomorrow|yesterday)\b", re.I)  # TIMESTAMP 'now' is another one each time
_BLANK = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_QUERY = re.compile(_BLANK + r"(?:\(|(?:select|with|values|table|from|map|reduce|show|describe|desc|explain)\b)", re.I | re.S)
_SESSION = (
    _BLANK
    + r"""(?:(?P<variable>(?:declare|set\s+var(?:iable)?|drop\s+temporary\s+variable)\b)
    |(?P<view>create\s+(?:or\s+replace\s+)?temp(?:orary)?\s+view\s+(?P<name>\w+|`[^`]+`)\s*(?P<columns>\([^)]*\)\s*)?as\b(?P<body>.*))
    |(?P<gone>drop\s+view\s+(?:if\s+exists\s+)?(?P<dropped>\w+|`[^`]+`)\s*;?\s*$)
    |(?P<other>(?:set|reset|use|create\s+(?:or\s+replace\s+)?temp(?:orary)?\s+function|drop\s+temporary\s+function)\b))"""
)
_VARIABLES = (
    _BLANK
    + r"""(?:declare(?:\s+or\s+replace)?(?:\s+var(?:iable)?)?|set\s+var(?:iable)?)\s*(?:\(\s*|\s)
    (?P<names>[\w.`]+(?:\s*,\s*[\w.`]+)*)"""
)


class TableUse(NamedTuple):
    """One place in the text where a table is read.

    Attributes:
        name: as written, lower case, parts joined by dots.
        start, end: character range of the name in the text, half open.
        aliased: whether the text gives it an alias.
        alias_at: where an alias can be inserted when there is none.
        version, timestamp: the user's own `VERSION AS OF` or `TIMESTAMP AS OF`; `clause` is the range of that clause.
        version_of, timestamp_of: the same as what must be worked out first: a parameter like `:v`, or an expression of Spark's.
        parameter: the name is the value of this parameter: `IDENTIFIER(:parameter)`.
        certain: whether the parser says so; else the words only look like it, and what nobody knows is left to Spark.
        before: what replaces the words in front of the name: `TABLE t |> ...` takes an alias only as `FROM t AS t |> ...`.
    """

    name: str
    start: int
    end: int
    aliased: bool
    alias_at: int
    version: str | None = None
    timestamp: str | None = None
    clause: tuple[int, int] | None = None
    parameter: str | None = None
    certain: bool = True
    before: str = ""
    version_of: str = ""
    timestamp_of: str = ""

    @property
    def alias(self) -> str:
        """The name by which its columns are qualified when the text gives it no other."""
        return self.name.rsplit(".", 1)[-1]


class Query(NamedTuple):
    """One read query.

    Attributes:
        text: as the user wrote it, without a trailing semicolon.
        tables: places where tables are read; CTE names are none.
        canonical: the text without comments, extra space, keyword case and the order of independent CTEs.
        volatile: why its answer may differ on equal inputs; empty when it may not.
        functions: names of the functions it calls. `words`: other names in it, a session variable perhaps.
        understood: whether the parser could read it.
        qualifiers: ranges of the `lake.` in `lake.flights.dep_delay`.
        texts: constant texts made with parameters, in pieces: `'to' || :rest` is ("'to", ":rest").
        bare: names that are functions without parentheses where no column has them, and where the tables stand that may have one.
    """

    text: str
    tables: tuple[TableUse, ...] = ()
    canonical: str = ""
    volatile: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    understood: bool = True
    qualifiers: tuple[tuple[int, int], ...] = ()
    texts: tuple[tuple[str, ...], ...] = ()
    bare: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**self._asdict(), "tables": [use._asdict() for use in self.tables]}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Query:
        """Return the query that `to_dict` wrote."""
        tables = tuple(TableUse(**{**use, "clause": tuple(use["clause"]) if use["clause"] else None}) for use in found["tables"])
        lists = {name: tuple(found[name]) for name in ("volatile", "functions", "words")}
        qualifiers = tuple((start, end) for start, end in found["qualifiers"])
        texts = tuple(map(tuple, found["texts"]))
        bare = tuple((name, tuple(places)) for name, places in found["bare"])
        return cls(**{**found, **lists, "tables": tables, "qualifiers": qualifiers, "texts": texts, "bare": bare})


class Statement(NamedTuple):
    """A statement that changes the session and gives no rows.

    Attributes:
        kind: variable, view, gone (a view dropped) or other.
        name: of the view. `head`, `body`: the text up to and from the view's query.
    """

    kind: str
    name: str = ""
    head: str = ""
    body: str = ""


def is_moment(text: str) -> bool:
    """Whether a text that is cast to a date or a timestamp is another one each time."""
    return bool(_MOMENT.match(text))


def joined(pieces: Sequence[str | None]) -> Iterator[str]:
    """Yield each piece alone and with those behind it, as long as that may still be a moment; what is None ends it."""
    for i, piece in enumerate(pieces):
        said = ""
        for following in pieces[i:] if piece else ():
            if following is None or len(said.strip()) > len("yesterday"):
                break
            said += following
            yield said


def is_query(text: str) -> bool:
    """Whether the text begins like something that gives rows."""
    return bool(_QUERY.match(text))


def variables(text: str) -> tuple[str, ...]:
    """Return the names of the session variables that a statement declares or sets, lower case."""
    found = re.match(_VARIABLES, text, re.I | re.S | re.X)
    names = re.split(r"\s*,\s*", found["names"]) if found else []
    return tuple(name.rpartition(".")[2].strip("`").lower() for name in names)


def first_word(text: str) -> str:
    """Return the word that the text begins with, behind comments; empty where there is none."""
    blank = re.match(_BLANK, text, re.S)
    return (text[blank.end() if blank else 0 :].split(None, 1) or [""])[0]


def statement(text: str) -> Statement | None:
    """Return what the text does to the session; None when it is no statement of the session."""
    if is_query(text):
        return None
    found = re.match(_SESSION, text, re.I | re.S | re.X)  # compiled by the first who needs it: it takes milliseconds
    if found is None:
        return None
    if found["view"]:
        return Statement("view", found["name"].strip("`").lower(), text[: found.start("body")], found["body"])
    if found["gone"]:
        return Statement("gone", found["dropped"].strip("`").lower())
    return Statement("variable" if found["variable"] else "other")


def rewrite(query: Query, views: Mapping[TableUse, str]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the text with table names replaced by view names, and the edits as (start, end, new length).

    Args:
        views: place in the text -> name of the view that holds exactly the pinned rows.
    """
    edits: list[tuple[int, int, str]] = []
    for use, view in views.items():
        edits.append((use.start, use.end, use.before + view))
        if use.clause:
            edits.append((*use.clause, ""))
        if not use.aliased:
            edits.append((use.alias_at, use.alias_at, f" AS `{use.alias}`"))
    if views:
        edits += [(start, end, "") for start, end in query.qualifiers]
    text = query.text
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text, [(start, end, len(new)) for start, end, new in sorted(edits)]


def where_to_look(text: str, place: tuple[int, int] | None) -> str:
    """Return what to do about a query that was refused at this line and column, both from 1; None where the place is not known."""
    if place is None:
        return "Correct the query and run the cell again."
    lines = text.splitlines()
    return f"Line {place[0]}, column {place[1]} of the query: {lines[min(place[0], len(lines)) - 1].strip()[:120]}"


def original_position(edits: list[tuple[int, int, int]], offset: int) -> int:
    """Return where the character at `offset` of the rewritten text stands in the text the user wrote."""
    shift = 0
    for start, end, length in edits:
        if start + shift + length > offset:
            return min(offset - shift, start) if offset >= start + shift else offset - shift
        shift += length - (end - start)
    return offset - shift
