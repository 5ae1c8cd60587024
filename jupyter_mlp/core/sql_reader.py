"""Reads a Spark SQL text with sqlglot: table references with their positions, functions, and the canonical text.

A text that sqlglot cannot read is never refused: its words tell which of our tables it may name, it goes to Spark as it
is, its lineage is then Spark's to tell, and it is never reused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.queries import UNREADABLE, Query, TableUse
from jupyter_mlp.core.spark_functions import BARE
from jupyter_mlp.core.sql_scopes import cte_of
from jupyter_mlp.core.sql_time_travel import clause
from jupyter_mlp.core.sql_volatile import bare, by_words, called, reasons, texts

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its "unsupported syntax" lines are our case "lineage unknown"

# Only words that can never name a column: `Date` and `date` may be two different output columns.
_KEYWORDS = frozenset(
    "SELECT FROM WHERE GROUP BY HAVING ORDER SORT LIMIT OFFSET JOIN INNER LEFT RIGHT FULL CROSS SEMI ANTI ON USING AND OR NOT AS IN "
    "IS NULL LIKE RLIKE BETWEEN CASE WHEN THEN ELSE END UNION ALL EXCEPT INTERSECT DISTINCT WITH EXISTS OVER PARTITION ROWS RANGE "
    "ASC DESC CAST LATERAL VIEW VALUES TRUE FALSE INTERVAL FILTER WINDOW".split()
)
_HINT = re.compile(r"/\*\+.*?\*/", re.S)
_SIGNS = frozenset("<>=!|&^~*/%+-:?@#$")
_READS = frozenset(("FROM", "JOIN", "TABLE", ","))
_NO_TABLES = frozenset("SELECT BY WHERE HAVING VALUES LIMIT OFFSET SET EXTEND AGGREGATE DROP |>".split())  # they list no tables


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
    hints = " ".join(_hints(tokens, text))
    tokens = sqlglot.tokenize(plain, dialect="spark")
    named = {token.text.lower() for token in tokens if token.token_type is not TokenType.STRING and token.text.isidentifier()}
    found = Query(text, functions=called(tokens), words=tuple(sorted(named)), texts=tuple(texts(tokens, plain)))
    try:
        tree = sqlglot.parse(_without_hints(tokens, plain), dialect="spark")[0]
        if tree is not None and not tree.find(exp.Command):
            return _parsed(found, tree, tokens, plain, hints)
    except (SqlglotError, RecursionError, IndexError):
        pass
    canonical = " ".join(_spelt(tokens, index, plain) for index in range(len(tokens)))
    volatile = tuple(dict.fromkeys((UNREADABLE, *by_words(tokens, plain))))
    return found._replace(tables=tuple(_tables_by_words(tokens, plain)), canonical=canonical, volatile=volatile, understood=False)


def _parsed(found: Query, tree: exp.Expr, tokens: list[Token], plain: str, hints: str) -> Query:
    tables = tuple(sorted(_tables(tree, tokens, plain), key=lambda use: use.start))
    canonical = _canonical(tree, tokens, plain) + hints
    qualifiers = (*_database_qualifiers(tree), *_qualifiers_in_hints(tables, tokens, plain))
    travels = [use.clause for use in tables if use.clause]  # which version they mean is worked out: it is an input then
    for version in list(tree.find_all(exp.Version)):
        version.pop()
    rest = [token for token in tokens if not any(start <= token.start < end for start, end in travels)]
    volatile = tuple(dict.fromkeys([*reasons(tree, rest, plain), *_unknown_identifiers(tokens, plain)]))
    functions = tuple(dict.fromkeys(bare(tree, rest)))
    return found._replace(tables=tables, canonical=canonical, volatile=volatile, qualifiers=qualifiers, bare=functions)


def _without_comments(tokens: list[Token], text: str) -> str:
    """The text with blanks for comments, everything in its place: sqlglot does not read `GROUP /* why */ BY`."""
    parts, at = [], 0
    for token in tokens:
        if token.start >= at:
            parts += [" " * (token.start - at), text[token.start : token.end + 1]]
            at = token.end + 1
    return "".join(parts)


def _hints(tokens: list[Token], text: str) -> Iterator[str]:
    """Hints that sqlglot takes for comments: all but the first behind a SELECT. They may change the order of the rows."""
    at = 0
    for token in tokens:
        yield from _HINT.findall(text[at : max(at, token.start)])
        at = max(at, token.end + 1)


def _without_hints(tokens: list[Token], text: str) -> str:
    """The text with blanks for hints: they name no tables and call no functions, and change no row."""
    for token in tokens:
        if token.token_type is TokenType.HINT:
            text = text[: token.start] + " " * (token.end + 1 - token.start) + text[token.end + 1 :]
    return text


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


def _tables(tree: exp.Expr, tokens: list[Token], text: str) -> Iterator[TableUse]:
    at = {token.start: index for index, token in enumerate(tokens)}
    for table in tree.find_all(exp.Table):
        parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
        if len(parts) != len(table.parts) or not parts or not all("start" in part.meta for part in parts):
            continue  # a table function; a name made by IDENTIFIER() is found by its words
        if len(parts) == 1 and cte_of(table, parts[0].name) is not None:
            continue
        start, end = parts[0].meta["start"], parts[-1].meta["end"] + 1
        start -= 1 if parts[0].quoted and tokens[at.get(start, 0)].start != start else 0
        yield _use(".".join(part.name for part in parts).lower(), (start, end), tokens, text, bool(table.alias))
    yield from _table_arguments(tokens, text)
    yield from _identifiers(tokens, text)


def _use(name: str, place: tuple[int, int], tokens: list[Token], text: str, aliased: bool | None, **more: Any) -> TableUse:
    """Return the use of a table; `aliased` None looks whether an alias follows."""
    end = place[1]
    after = next((i for i, token in enumerate(tokens) if token.start >= end), len(tokens))
    travel = clause(tokens, after, text)
    if travel is not None:
        end, after = travel.range[1], travel.after
        more["clause"] = travel.range
        more["version" if travel.is_version else "timestamp"] = travel.literal
        more["version_of" if travel.is_version else "timestamp_of"] = travel.expression
    alias_at, after = _after_sample(tokens, after, end)
    return TableUse(name, *place, _alias_follows(tokens, after) if aliased is None else aliased, alias_at, **more)


def _table_arguments(tokens: list[Token], text: str) -> Iterator[TableUse]:
    """`f(TABLE(lake.flights))`: a table that a table function is given; it takes no alias."""
    ctes = _cte_names(tokens)
    for i in range(1, len(tokens) - 2):
        if tokens[i].text.upper() != "TABLE" or tokens[i + 1].text != "(" or not _names(tokens[i + 2]):
            continue
        if tokens[i - 1].text not in ("(", ",", "=>"):
            continue
        name, last = _dotted(tokens, i + 2)
        if last + 1 < len(tokens) and tokens[last + 1].text == ")" and name not in ctes:
            yield _use(name, (tokens[i + 2].start, tokens[last].end + 1), tokens, text, True)


def _identifiers(tokens: list[Token], text: str) -> Iterator[TableUse]:
    """`FROM IDENTIFIER('lake.flights')` and `FROM IDENTIFIER(:table)`."""
    for i, token in enumerate(tokens[:-3]):
        if token.text.upper() != "IDENTIFIER" or tokens[i + 1].token_type is not TokenType.L_PAREN:
            continue
        if i == 0 or tokens[i - 1].text.upper() not in _READS or (tokens[i - 1].text == "," and not _lists_tables(tokens, i)):
            continue
        close = next((j for j in range(i, min(i + 6, len(tokens))) if tokens[j].token_type is TokenType.R_PAREN), None)
        if close is None or (close + 1 < len(tokens) and tokens[close + 1].token_type is TokenType.L_PAREN):
            continue
        inside = tokens[i + 2 : close]
        place = (token.start, tokens[close].end + 1)
        if len(inside) == 1 and inside[0].token_type is TokenType.STRING:
            name = inside[0].text.replace("`", "").lower()
            if name not in _cte_names(tokens):
                yield _use(name, place, tokens, text, None)
        elif len(inside) == 2 and inside[0].text == ":":
            yield _use("", place, tokens, text, None, parameter=inside[1].text)


def _lists_tables(tokens: list[Token], index: int) -> bool:
    """Whether the comma before `index` stands in a FROM clause, not among columns or arguments."""
    depth = 0
    for i in range(index - 1, -1, -1):
        word = tokens[i].text.upper()
        depth += (word == ")") - (word == "(")
        if depth < 0 or (depth == 0 and word.split()[-1:] and word.split()[-1] in _NO_TABLES):
            return False  # ORDER BY is one token
        if depth == 0 and word == "FROM" and tokens[i - 1].text.upper() != "DISTINCT":
            return True
    return False


def _unknown_identifiers(tokens: list[Token], text: str) -> Iterator[str]:
    """IDENTIFIER() of something that only Spark can work out, or as the name of a function."""
    known = {use.start for use in _identifiers(tokens, text)}
    for i, token in enumerate(tokens[:-3]):
        if token.text.upper() == "IDENTIFIER" and tokens[i + 1].token_type is TokenType.L_PAREN and token.start not in known:
            close = next((j for j in range(i, min(i + 5, len(tokens))) if tokens[j].token_type is TokenType.R_PAREN), None)
            literal = close is not None and (tokens[i + 2].token_type is TokenType.STRING or tokens[i + 2].text == ":")
            called_so = close is not None and close + 1 < len(tokens) and tokens[close + 1].token_type is TokenType.L_PAREN
            table = tokens[i - 1].text.upper() in _READS - {","} or (tokens[i - 1].text == "," and _lists_tables(tokens, i))
            function = tokens[i + 2].text.replace("`", "").lower() in BARE
            if not literal or called_so or table or function:
                yield "IDENTIFIER() names something that only Spark can work out"


def _tables_by_words(tokens: list[Token], text: str) -> Iterator[TableUse]:
    """Names behind FROM, JOIN, TABLE or a comma, for a text that only Spark can read."""
    ctes = _cte_names(tokens)
    for i in range(1, len(tokens)):
        if not _names(tokens[i]) or not _reads(tokens, i):
            continue
        name, last = _dotted(tokens, i)
        following = "".join(token.text for token in tokens[last + 1 : last + 3])
        if following[:1] == "(" or following[:2] == "=>" or name in ctes:
            continue  # a function; an argument's name
        place = (tokens[i].start, tokens[last].end + 1)
        if tokens[i - 1].text.upper() != "TABLE":
            yield _use(name, place, tokens, text, None, certain=False)
        elif following[:2] == "|>":
            yield _use(name, (tokens[i - 1].start, place[1]), tokens, text, False, certain=False, before="FROM ")
        else:
            yield _use(name, place, tokens, text, True, certain=False)  # TABLE t takes no alias
    yield from _table_arguments(tokens, text)
    yield from _identifiers(tokens, text)


def _dotted(tokens: list[Token], index: int) -> tuple[str, int]:
    """Return the name of several parts that begins at `index`, and where its last token is."""
    last = index
    while last + 2 < len(tokens) and tokens[last + 1].token_type is TokenType.DOT and _names(tokens[last + 2]):
        last += 2
    return ".".join(token.text for token in tokens[index : last + 1 : 2]).lower(), last


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


def _database_qualifiers(tree: exp.Expr) -> Iterator[tuple[int, int]]:
    """Ranges of `lake.` in `lake.flights.dep_delay`: a view has no database."""
    for column in tree.find_all(exp.Column):
        database, table = column.args.get("db"), column.args.get("table")
        if database is not None and table is not None and "start" in database.meta and "start" in table.meta:
            yield database.meta["start"], table.meta["start"]


def _qualifiers_in_hints(tables: Sequence[TableUse], tokens: list[Token], text: str) -> Iterator[tuple[int, int]]:
    """The same in a hint that names a table as the text does: BROADCAST(lake.flights)."""
    names = [use.name.rpartition(".") for use in tables if not use.aliased and "." in use.name]
    for token in tokens:
        if token.token_type is TokenType.HINT:
            for database, _, table in names:
                written = rf"(?<![\w.`]){re.escape(database)}\.(?={re.escape(table)}\b)"
                for found in re.finditer(written, text[token.start : token.end + 1], re.I):
                    yield token.start + found.start(), token.start + found.end()
