"""What a Spark SQL query reads and whether it can be reused, from its text alone.

sqlglot finds the table references with their positions; only those are rewritten, everything else goes to Spark as
the user wrote it. A text that sqlglot cannot read is sent unchanged, its lineage is then unknown and it is never reused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.spark_functions import DETERMINISTIC, VOLATILE

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its "unsupported syntax" lines are our case "lineage unknown"

# Only words that can never name a column: `Date` and `date` may be two different output columns.
_KEYWORDS = frozenset(
    "SELECT FROM WHERE GROUP BY HAVING ORDER SORT LIMIT OFFSET JOIN INNER LEFT RIGHT FULL CROSS SEMI ANTI ON USING AND OR NOT AS IN "
    "IS NULL LIKE RLIKE BETWEEN CASE WHEN THEN ELSE END UNION ALL EXCEPT INTERSECT DISTINCT WITH EXISTS OVER PARTITION ROWS RANGE "
    "ASC DESC CAST LATERAL VIEW VALUES TRUE FALSE INTERVAL FILTER WINDOW".split()
)


@dataclass(frozen=True)
class TableUse:
    """One place in the text where a table is read.

    Attributes:
        name: as written, lower case, parts joined by dots.
        start, end: character range of the name in the text, half open.
        aliased: whether the text gives it an alias.
        alias_at: where an alias can be inserted when there is none.
        version: the user's own `VERSION AS OF`; `clause` is the range of that clause.
    """

    name: str
    start: int
    end: int
    aliased: bool
    alias_at: int
    version: str | None = None
    clause: tuple[int, int] | None = None


@dataclass(frozen=True)
class Query:
    """One read query.

    Attributes:
        text: as the user wrote it, without a trailing semicolon.
        tables: places where tables are read; CTE names are none.
        canonical: the text without comments, extra space and keyword case; equal texts have equal meaning.
        volatile: why its answer may differ on equal inputs; empty when it may not.
        understood: whether the parser could read it.
    """

    text: str
    tables: tuple[TableUse, ...] = ()
    canonical: str = ""
    volatile: tuple[str, ...] = ()
    understood: bool = True
    qualifiers: tuple[tuple[int, int], ...] = field(default=(), repr=False)


def read(text: str) -> Query:
    """Return what `text` reads.

    Raises:
        InvalidInputError: it is empty, or holds more than one statement.
    """
    try:
        tokens = sqlglot.tokenize(text, dialect="spark")
    except SqlglotError:
        return Query(text, canonical=text, volatile=("the text could not be read",), understood=False)
    tokens, text = _one_statement(tokens, text)
    canonical = " ".join(_normal(token, text) for token in tokens)
    try:
        trees = sqlglot.parse(text, dialect="spark")
    except (SqlglotError, RecursionError):
        return Query(text, canonical=canonical, volatile=("the text could not be read",), understood=False)
    tree = trees[0] if trees else None
    if tree is None or isinstance(tree, exp.Command) or tree.find(exp.Command):
        return Query(text, canonical=canonical, volatile=("the text could not be read",), understood=False)
    tables = tuple(sorted(_tables(tree, tokens), key=lambda use: use.start))
    qualifiers = tuple(_database_qualifiers(tree))
    return Query(text, tables, canonical, tuple(_volatile(tree)), True, qualifiers)


def rewrite(query: Query, views: Mapping[tuple[str, str | None], str]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the text with table names replaced by view names, and the edits as (start, end, new length).

    Args:
        views: (table name, the user's version or None) -> name of the view that holds exactly the pinned rows.
    """
    edits: list[tuple[int, int, str]] = []
    replaced = [use for use in query.tables if (use.name, use.version) in views]
    for use in replaced:
        edits.append((use.start, use.end, views[use.name, use.version]))
        if use.clause:
            edits.append((*use.clause, ""))
        if not use.aliased:
            edits.append((use.alias_at, use.alias_at, f" AS `{use.name.rsplit('.', 1)[-1]}`"))
    if replaced:
        edits += [(start, end, "") for start, end in query.qualifiers]
    text = query.text
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text, [(start, end, len(new)) for start, end, new in sorted(edits)]


def original_position(edits: list[tuple[int, int, int]], offset: int) -> int:
    """Return where the character at `offset` of the rewritten text stands in the text the user wrote."""
    shift = 0
    for start, end, length in edits:
        if start + shift + length > offset:
            return min(offset - shift, start) if offset >= start + shift else offset - shift
        shift += length - (end - start)
    return offset - shift


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


def _tables(tree: exp.Expr, tokens: list[Token]) -> Iterator[TableUse]:
    at = {token.start: index for index, token in enumerate(tokens)}
    for table in tree.find_all(exp.Table):
        parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
        if len(parts) != len(table.parts) or not parts or not all("start" in part.meta for part in parts):
            continue  # a table function, or a name made by IDENTIFIER(): Spark resolves it
        if len(parts) == 1 and is_cte(table, parts[0].name):
            continue
        start, end = parts[0].meta["start"], parts[-1].meta["end"] + 1
        start -= 1 if parts[0].quoted and tokens[at.get(start, 0)].start != start else 0
        after = next((i for i, token in enumerate(tokens) if token.start >= end), len(tokens))
        clause, version, after = _time_travel(tokens, after)
        alias_at = _after_sample(tokens, after, end if clause is None else clause[1])
        yield TableUse(".".join(part.name for part in parts).lower(), start, end, bool(table.alias), alias_at, version, clause)


def _time_travel(tokens: list[Token], index: int) -> tuple[tuple[int, int] | None, str | None, int]:
    """Read `[FOR] VERSION AS OF literal` at `index`; return its range, the version, the next index."""
    words = " ".join(token.text.upper() for token in tokens[index : index + 4])
    skip = 1 if words.startswith("FOR ") else 0
    for length in (1, 3):  # one token or three, as sqlglot's releases go
        literal = index + skip + length
        if " ".join(t.text.upper() for t in tokens[index + skip : literal]) == "VERSION AS OF" and literal < len(tokens):
            return (tokens[index].start, tokens[literal].end + 1), tokens[literal].text, literal + 1
    return None, None, index


def _after_sample(tokens: list[Token], index: int, default: int) -> int:
    """Spark wants an alias after TABLESAMPLE (...) [REPEATABLE (...)]."""
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
    return end


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


def _volatile(tree: exp.Expr) -> Iterator[str]:
    for node in tree.find_all(exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name in VOLATILE:
            yield f"{name}() may give another answer each time"
        elif isinstance(node, exp.Anonymous) and name not in DETERMINISTIC:
            yield f"{name}() is not a built-in function, so its code has no version"
    if tree.find(exp.TableSample):
        yield "TABLESAMPLE draws other rows each time"
