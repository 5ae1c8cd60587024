"""Reads a Spark SQL text with sqlglot: table references with their positions, functions, and the canonical text.

A text that sqlglot cannot read is never refused: its words tell which of our tables it may name, it goes to Spark as it
is, its lineage is then Spark's to tell, and it is never reused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.queries import UNREADABLE, Query, TableUse
from jupyter_mlp.core.spark_functions import DETERMINISTIC, VOLATILE

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its "unsupported syntax" lines are our case "lineage unknown"

# Only words that can never name a column: `Date` and `date` may be two different output columns.
_KEYWORDS = frozenset(
    "SELECT FROM WHERE GROUP BY HAVING ORDER SORT LIMIT OFFSET JOIN INNER LEFT RIGHT FULL CROSS SEMI ANTI ON USING AND OR NOT AS IN "
    "IS NULL LIKE RLIKE BETWEEN CASE WHEN THEN ELSE END UNION ALL EXCEPT INTERSECT DISTINCT WITH EXISTS OVER PARTITION ROWS RANGE "
    "ASC DESC CAST LATERAL VIEW VALUES TRUE FALSE INTERVAL FILTER WINDOW".split()
)
_MOMENT = re.compile(r"\s*(now|today|tomorrow|yesterday)\b", re.I)  # TIMESTAMP 'now' is another one each time
_SIGNS = frozenset("<>=!|&^~*/%+-:?@#$")
_READS = frozenset(("FROM", "JOIN", "TABLE", ","))


def read(text: str) -> Query:
    """Return what `text` reads.

    Raises:
        InvalidInputError: it is empty, or holds more than one statement.
    """
    try:
        tokens = sqlglot.tokenize(text, dialect="spark")
    except SqlglotError:
        return Query(text, canonical=text, volatile=(UNREADABLE,), understood=False)
    tokens, text = _one_statement(tokens, text)
    plain = _without_comments(tokens, text)
    tokens = sqlglot.tokenize(plain, dialect="spark")
    named = {token.text.lower() for token in tokens if token.token_type is not TokenType.STRING and token.text.isidentifier()}
    words = tuple(sorted(named))
    try:
        tree = sqlglot.parse(plain, dialect="spark")[0]
        if tree is not None and not tree.find(exp.Command):
            tables = tuple(sorted(_tables(tree, tokens), key=lambda use: use.start))
            volatile = tuple(dict.fromkeys([*_volatile(tree, tokens), *_substituted(plain)]))
            qualifiers = tuple(_database_qualifiers(tree))
            return Query(text, tables, _canonical(tree, tokens, plain), volatile, _called(tokens), words, True, qualifiers)
    except (SqlglotError, RecursionError, IndexError):
        pass
    canonical = " ".join(_spelt(tokens, index, plain) for index in range(len(tokens)))
    return Query(text, tuple(_tables_by_words(tokens)), canonical, (UNREADABLE,), _called(tokens), words, False)


def _without_comments(tokens: list[Token], text: str) -> str:
    """The text with blanks for comments, everything in its place: sqlglot does not read `GROUP /* why */ BY`."""
    parts, at = [], 0
    for token in tokens:
        if token.start >= at:
            parts += [" " * (token.start - at), text[token.start : token.end + 1]]
            at = token.end + 1
    return "".join(parts)


def _one_statement(tokens: list[Token], text: str) -> tuple[list[Token], str]:
    cuts = [i for i, token in enumerate(tokens) if token.token_type is TokenType.SEMICOLON]
    while cuts and cuts[-1] == len(tokens) - 1:
        text = text[: tokens[-1].start]
        tokens = tokens[:-1]
        cuts.pop()
    if not tokens:
        raise InvalidInputError("The cell holds no query.", "Write one Spark SQL query below the magic, like SELECT 1.")
    if cuts:
        line = tokens[cuts[0]].line
        raise InvalidInputError(
            f"The cell holds more than one statement (a second one begins after line {line}).", "Put each query in a cell of its own."
        )
    return tokens, text


def _normal(token: Token, text: str) -> str:
    raw = text[token.start : token.end + 1]
    words = raw.upper().split()  # GROUP BY is one token
    return " ".join(words) if all(word in _KEYWORDS for word in words) else raw


# -- the same question


def _canonical(tree: exp.Expr, tokens: list[Token], text: str) -> str:
    """The tokens with one space between, independent CTEs sorted by name."""
    lists = {segments[0][0]: segments for segments in _sortable(tree, tokens)}

    def render(start: int, end: int) -> str:
        parts: list[str] = []
        index = start
        while index < end:
            segments = lists.get(index)
            if segments and (start, end) != segments[0]:
                parts.append(" , ".join(sorted(render(*segment) for segment in segments)))
                index = segments[-1][1]
            else:
                parts.append(_spelt(tokens, index, text))
                index += 1
        return " ".join(parts)

    return render(0, len(tokens))


def _spelt(tokens: list[Token], index: int, text: str) -> str:
    """A token as it counts, and whether two signs are one operator."""
    token = tokens[index]
    if index == 0:
        return _normal(token, text)
    before = tokens[index - 1]
    joined = token.start == before.end + 1 and before.text[-1:] in _SIGNS and token.text[:1] in _SIGNS  # >> is not > >
    return ("+" if joined else "") + _normal(token, text)


def _sortable(tree: exp.Expr, tokens: list[Token]) -> Iterator[list[tuple[int, int]]]:
    """For each WITH whose CTEs may stand in any order: their token ranges, in the order of the text."""
    for holder in tree.find_all(exp.With):
        ctes = list(holder.expressions)
        names = [cte.alias.lower() for cte in ctes]
        if holder.recursive or len(ctes) < 2 or len(set(names)) < len(names):
            continue
        # Moved before the one it reads, a CTE would read a table of that name instead.
        if any(table.name.lower() in names[i:] for i, cte in enumerate(ctes) for table in cte.this.find_all(exp.Table)):
            continue
        segments = [_cte_range(cte, tokens) for cte in ctes]
        found = [segment for segment in segments if segment is not None]
        if len(found) == len(ctes):
            yield found


def _cte_range(cte: exp.Expr, tokens: list[Token]) -> tuple[int, int] | None:
    """Token range of `name [(columns)] [AS] (query)`."""
    name = cte.args["alias"].this
    start = next((i for i, token in enumerate(tokens) if token.start <= name.meta.get("start", -1) <= token.end), None)
    if start is None:
        return None
    index, closed = start + 1, 0
    while index < len(tokens) and closed < (2 if cte.args["alias"].args.get("columns") else 1):
        depth = 0
        while index < len(tokens):
            kind = tokens[index].token_type
            depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
            index += 1
            if kind is TokenType.R_PAREN and depth == 0:
                closed += 1
                break
    return start, index


# -- what it reads


def _tables(tree: exp.Expr, tokens: list[Token]) -> Iterator[TableUse]:
    at = {token.start: index for index, token in enumerate(tokens)}
    for table in tree.find_all(exp.Table):
        parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
        if len(parts) != len(table.parts) or not parts or not all("start" in part.meta for part in parts):
            continue  # a table function; a name made by IDENTIFIER() is found by its words
        if len(parts) == 1 and is_cte(table, parts[0].name):
            continue
        start, end = parts[0].meta["start"], parts[-1].meta["end"] + 1
        start -= 1 if parts[0].quoted and tokens[at.get(start, 0)].start != start else 0
        yield _use(".".join(part.name for part in parts).lower(), start, end, tokens, bool(table.alias))
    yield from _identifiers(tokens)


def _use(name: str, start: int, end: int, tokens: list[Token], aliased: bool | None, **more: Any) -> TableUse:
    """Return the use of a table; `aliased` None looks whether an alias follows."""
    after = next((i for i, token in enumerate(tokens) if token.start >= end), len(tokens))
    clause, word, literal, after = _time_travel(tokens, after)
    alias_at, after = _after_sample(tokens, after, end if clause is None else clause[1])
    aliased = _alias_follows(tokens, after) if aliased is None else aliased
    version, timestamp = (literal if word == wanted else None for wanted in ("VERSION", "TIMESTAMP"))
    return TableUse(name, start, end, aliased, alias_at, version, timestamp, clause, **more)


def _identifiers(tokens: list[Token]) -> Iterator[TableUse]:
    """`FROM IDENTIFIER('lake.flights')` and `FROM IDENTIFIER(:table)`."""
    for i, token in enumerate(tokens[:-3]):
        if token.text.upper() != "IDENTIFIER" or tokens[i + 1].token_type is not TokenType.L_PAREN:
            continue
        if i == 0 or tokens[i - 1].text.upper() not in _READS:
            continue
        close = next((j for j in range(i, min(i + 6, len(tokens))) if tokens[j].token_type is TokenType.R_PAREN), None)
        if close is None or (close + 1 < len(tokens) and tokens[close + 1].token_type is TokenType.L_PAREN):
            continue
        inside = tokens[i + 2 : close]
        end = tokens[close].end + 1
        sure = tokens[i - 1].text != ","  # behind a comma it may be a column
        if len(inside) == 1 and inside[0].token_type is TokenType.STRING:
            name = inside[0].text.replace("`", "").lower()
            if name not in _cte_names(tokens):
                yield _use(name, token.start, end, tokens, None, certain=sure)
        elif len(inside) == 2 and inside[0].text == ":":
            yield _use("", token.start, end, tokens, None, parameter=inside[1].text, certain=sure)


def _unknown_identifiers(tokens: Sequence[Token]) -> Iterator[str]:
    """IDENTIFIER() of something that only Spark can work out, or as the name of a function."""
    known = {use.start for use in _identifiers(list(tokens))}
    for i, token in enumerate(tokens[:-3]):
        if token.text.upper() == "IDENTIFIER" and tokens[i + 1].token_type is TokenType.L_PAREN and token.start not in known:
            close = next((j for j in range(i, min(i + 5, len(tokens))) if tokens[j].token_type is TokenType.R_PAREN), None)
            literal = close is not None and (tokens[i + 2].token_type is TokenType.STRING or tokens[i + 2].text == ":")
            called = close is not None and close + 1 < len(tokens) and tokens[close + 1].token_type is TokenType.L_PAREN
            if not literal or called or tokens[i - 1].text.upper() in _READS:
                yield "IDENTIFIER() names something that only Spark can work out"


def _tables_by_words(tokens: list[Token]) -> Iterator[TableUse]:
    """Names behind FROM, JOIN, TABLE or a comma, for a text that only Spark can read."""
    ctes = _cte_names(tokens)
    for i in range(1, len(tokens)):
        if not _names(tokens[i]) or not _reads(tokens, i):
            continue
        last = i
        while last + 2 < len(tokens) and tokens[last + 1].token_type is TokenType.DOT and _names(tokens[last + 2]):
            last += 2
        name = ".".join(token.text for token in tokens[i : last + 1 : 2]).lower()
        following = tokens[last + 1].text if last + 1 < len(tokens) else ""
        if following == "(" or name in ctes:
            continue
        start, end = tokens[i].start, tokens[last].end + 1
        if tokens[i - 1].text.upper() != "TABLE":
            yield _use(name, start, end, tokens, None, certain=False)
        elif following == "|>":
            yield _use(name, tokens[i - 1].start, end, tokens, False, certain=False, before="FROM ")
        else:
            yield _use(name, start, end, tokens, True, certain=False)  # TABLE t takes no alias
    yield from _identifiers(tokens)


def _reads(tokens: list[Token], index: int) -> bool:
    """Whether a name at `index` stands where a table is read: behind FROM, JOIN, TABLE, a comma, or FROM ( and JOIN (."""
    before = tokens[index - 1].text.upper()
    return before in _READS or (before == "(" and index > 1 and tokens[index - 2].text.upper() in ("FROM", "JOIN"))


def _cte_names(tokens: list[Token]) -> set[str]:
    """Names that `AS (` follows, with or without a list of columns between."""
    found = set()
    for i, token in enumerate(tokens[:-2]):
        if token.text.upper() != "AS" and tokens[i + 1].text.upper() == "AS" and tokens[i + 2].token_type is TokenType.L_PAREN:
            start = i
            if token.token_type is TokenType.R_PAREN:
                start = next((j for j in range(i, 0, -1) if tokens[j].token_type is TokenType.L_PAREN), 1) - 1
            found.add(tokens[start].text.lower())
    return found


def _names(token: Token) -> bool:
    return token.token_type in (TokenType.VAR, TokenType.IDENTIFIER)


def _alias_follows(tokens: list[Token], index: int) -> bool:
    return index < len(tokens) and (tokens[index].text.upper() == "AS" or _names(tokens[index]))


def _time_travel(tokens: list[Token], index: int) -> tuple[tuple[int, int] | None, str, str | None, int]:
    """Read `[FOR] [SYSTEM_]VERSION|TIMESTAMP|TIME AS OF literal` at `index`; return its range, the word, the literal, the next index."""
    words = " ".join(token.text.upper() for token in tokens[index : index + 4])
    skip = 1 if words.startswith("FOR ") else 0
    for length in (1, 3):  # one token or three, as sqlglot's releases go
        literal = index + skip + length
        said = " ".join(t.text.upper() for t in tokens[index + skip : literal])
        word = {"VERSION AS OF": "VERSION", "SYSTEM_VERSION AS OF": "VERSION"}.get(said) or {
            "TIMESTAMP AS OF": "TIMESTAMP",
            "SYSTEM_TIME AS OF": "TIMESTAMP",
        }.get(said)
        if word and literal < len(tokens):
            if tokens[literal].text.upper() in ("TIMESTAMP", "DATE") and literal + 1 < len(tokens):
                literal += 1  # TIMESTAMP AS OF TIMESTAMP '2013-01-01'
            return (tokens[index].start, tokens[literal].end + 1), word, tokens[literal].text, literal + 1
    return None, "", None, index


def _after_sample(tokens: list[Token], index: int, default: int) -> tuple[int, int]:
    """Spark wants an alias after TABLESAMPLE (...) [REPEATABLE (...)]: return its place and the index of the next token."""
    end = default
    while index < len(tokens) and tokens[index].text.upper() in ("TABLESAMPLE", "REPEATABLE"):
        depth = 0
        while index < len(tokens):
            token = tokens[index]
            depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
            index += 1
            end = token.end + 1
            if token.token_type is TokenType.R_PAREN and depth == 0:
                break
    return end, index


def is_cte(table: exp.Table, name: str) -> bool:
    """Whether a one-part name means a CTE that is visible where it stands."""
    node: exp.Expr | None = table
    inside: exp.CTE | None = None
    while node is not None:
        if isinstance(node, exp.CTE):
            inside = node
        holder = node.args.get("with_") or node.args.get("with")
        if isinstance(holder, exp.With):
            for cte in holder.expressions:
                if cte is inside and not holder.recursive:
                    break  # a CTE sees the ones before it, not itself
                if cte.alias.lower() == name.lower():
                    return True
                if cte is inside:
                    break
        node = node.parent
    return False


def _database_qualifiers(tree: exp.Expr) -> Iterator[tuple[int, int]]:
    """Ranges of `lake.` in `lake.flights.dep_delay`: a view has no database."""
    for column in tree.find_all(exp.Column):
        database, table = column.args.get("db"), column.args.get("table")
        if database is not None and table is not None and "start" in database.meta and "start" in table.meta:
            yield database.meta["start"], table.meta["start"]


# -- what may differ each time


def _substituted(text: str) -> list[str]:
    return ["${...} stands for a setting or variable of the moment"] if "${" in text else []


def _called(tokens: Sequence[Token]) -> tuple[str, ...]:
    """Names that stand before an opening parenthesis."""
    calls = {token.text.lower() for token, after in pairwise(tokens) if after.token_type is TokenType.L_PAREN and token.text.isidentifier()}
    return tuple(sorted(calls))


def _volatile(tree: exp.Expr, tokens: Sequence[Token]) -> Iterator[str]:
    for name in _called(tokens):
        if name in VOLATILE:
            yield f"{name}() may give another answer each time"
    for node in tree.find_all(exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name in VOLATILE:
            yield f"{name}() may give another answer each time"
        elif isinstance(node, exp.Anonymous) and name not in DETERMINISTIC and name != "identifier":
            yield f"{name}() is not a built-in function, so its code has no version"
    yield from _unknown_identifiers(tokens)
    if tree.find(exp.TableSample):
        yield "TABLESAMPLE draws other rows each time"
    if tree.find(exp.QueryTransform):
        yield "TRANSFORM runs a script that has no version"
    for token in tokens:
        if token.token_type is TokenType.STRING and _MOMENT.match(token.text):
            yield f"'{token.text}' may be another moment each time"
    if not isinstance(tree, exp.Query | exp.Table | exp.Values | exp.Subquery):
        yield f"{tokens[0].text.upper()} reads the session, which has no version"
