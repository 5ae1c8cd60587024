"""Why the answer to a query may differ although its inputs are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from jupyter_mlp.core.queries import ANOTHER_MOMENT, is_moment, joined
from jupyter_mlp.core.spark_functions import BARE, BUILDERS, DETERMINISTIC, VOLATILE
from jupyter_mlp.core.sql_scopes import givers

_STRINGS = (TokenType.STRING, TokenType.RAW_STRING, TokenType.HEX_STRING)
# Between two pieces of text they leave their letters as they are: lower('TO') || trim('day ') is 'today'.
_JOINTS = frozenset(
    "|| , ( ) CONCAT CONCAT_WS LOWER UPPER LCASE UCASE INITCAP TRIM LTRIM RTRIM BTRIM CAST AS STRING COALESCE NVL IFNULL".split()
)
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")


def reasons(tree: exp.Expr, tokens: Sequence[Token], text: str) -> Iterator[str]:
    """Yield why the answer may differ each time, one sentence each, for a text that was parsed."""
    yield from by_words(tokens, text)
    for node in tree.find_all(exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if not isinstance(node, exp.Anonymous) and name in BARE:  # sqlglot's own, with parentheses or without
            yield f"{name}() may give another answer each time"
        elif isinstance(node, exp.Anonymous) and name not in DETERMINISTIC | VOLATILE | {"identifier", "table"}:
            yield f"{name}() is not a built-in function, so its code has no version"
    if tree.find(exp.TableSample):
        yield "TABLESAMPLE draws other rows each time"
    if tree.find(exp.QueryTransform):
        yield "TRANSFORM runs a script that has no version"
    if not isinstance(tree, exp.Query | exp.Table | exp.Values | exp.Subquery):
        yield f"{tokens[0].text.upper()} reads the session, which has no version"


def by_words(tokens: Sequence[Token], text: str) -> Iterator[str]:
    """Yield what can be said of any text, parsed or not."""
    for i, token in enumerate(tokens):
        name = token.text.lower()
        if name not in VOLATILE or token.token_type in _STRINGS or not _is(tokens, i + 1, "("):
            continue
        if name != "unix_timestamp" or _is(tokens, i + 2, ")"):  # of a given moment it is the same each time
            yield f"{name}() may give another answer each time"
    for run in _runs(tokens, text):
        said = next((word for word in joined([piece[1:] if piece[0] == "'" else None for piece in run]) if is_moment(word)), None)
        if said is not None:
            yield f"'{said}' may be {ANOTHER_MOMENT}"
    yield from _built(tokens)
    if "${" in text:
        yield "${...} stands for a setting or variable of the moment"


def texts(tokens: Sequence[Token], text: str) -> Iterator[tuple[str, ...]]:
    """Yield the constant texts that parameters are part of, in pieces: 'to :rest is ("'to", ":rest")."""
    for run in _runs(tokens, text):
        if len(run) > 1 and any(piece[0] == ":" for piece in run):
            yield tuple(run)


def bare(tree: exp.Expr, tokens: Sequence[Token]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names that are functions without parentheses where no column has them, and the places of the tables that may have one."""
    written = {token.text.lower() for i, token in enumerate(tokens) if token.text.lower() in BARE and not _is(tokens, i + 1, "(")}
    if not written:
        return
    for column in tree.find_all(exp.Column):
        name = column.name.lower()
        if name in written and not column.args.get("table") and not isinstance(column.parent, exp.Star):  # * EXCEPT (user)
            yield name, tuple(sorted(givers(column, name)))


def called(tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return the names that stand before an opening parenthesis."""
    calls = {token.text.lower() for token, after in pairwise(tokens) if after.token_type is TokenType.L_PAREN and token.text.isidentifier()}
    return tuple(sorted(calls))


def _built(tokens: Sequence[Token]) -> Iterator[str]:
    """Constant texts that only Spark can work out: cast to a date they may be a word like 'today'."""
    for i, token in enumerate(tokens[:-1]):
        name = token.text.lower()
        if name not in BUILDERS or token.token_type in _STRINGS or not _is(tokens, i + 1, "("):
            continue
        depth = 0
        for j in range(i + 1, len(tokens)):
            depth += (tokens[j].text == "(") - (tokens[j].text == ")")
            if depth == 0:
                yield f"{name}() of constants may make a word like 'today', {ANOTHER_MOMENT}"
            if depth == 0 or _may_be_a_column(tokens, j):
                break


def _may_be_a_column(tokens: Sequence[Token], index: int) -> bool:
    token = tokens[index]
    named = token.token_type in (TokenType.VAR, TokenType.IDENTIFIER, TokenType.SELECT, TokenType.STAR)
    return named and tokens[index - 1].text != ":" and not _is(tokens, index + 1, "(")


def _runs(tokens: Sequence[Token], text: str) -> Iterator[list[str]]:
    """Yield the texts and parameters that one constant text may be made of, in their order."""
    run: list[str] = []
    for i, token in enumerate(tokens):
        parameter = i > 0 and tokens[i - 1].text == ":" and token.text.isidentifier()
        if token.token_type in _STRINGS:
            run.append(f"'{_content(token, text)}")
        elif parameter:
            run.append(f":{token.text}")
        elif token.text != ":" and token.text.upper() not in _JOINTS and run:
            yield run
            run = []
    if run:
        yield run


def _content(token: Token, text: str) -> str:
    if token.token_type is TokenType.HEX_STRING:
        return bytes.fromhex(token.text.zfill(len(token.text) + len(token.text) % 2)).decode("utf-8", "replace")
    raw = text[token.start : token.end + 1]
    if token.token_type is TokenType.STRING and _OCTAL.search(raw):
        return _OCTAL.sub(lambda found: chr(int(found[1], 8)), raw[1:-1])
    return token.text


def _is(tokens: Sequence[Token], index: int, text: str) -> bool:
    return index < len(tokens) and tokens[index].text == text
