"""`VERSION AS OF` and `TIMESTAMP AS OF` behind a table's name: a literal, a parameter, or a constant expression of Spark's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot.tokens import Token, TokenType

_WORDS = {
    "VERSION AS OF": "VERSION",
    "SYSTEM_VERSION AS OF": "VERSION",
    "TIMESTAMP AS OF": "TIMESTAMP",
    "SYSTEM_TIME AS OF": "TIMESTAMP",
}
_OPERATORS = frozenset(("+", "-", "*", "/", "%", "||"))
_UNITS = frozenset(
    f"{unit}{end}" for unit in "YEAR QUARTER MONTH WEEK DAY HOUR MINUTE SECOND MILLISECOND MICROSECOND".split() for end in ("", "S")
) | {"TO"}
_LITERALS = (TokenType.STRING, TokenType.NUMBER, TokenType.RAW_STRING)
_ENDS = frozenset(
    "SELECT FROM WHERE GROUP HAVING ORDER LIMIT OFFSET JOIN INNER LEFT RIGHT FULL CROSS SEMI ANTI ON USING UNION EXCEPT AS".split()
)


class Clause(NamedTuple):
    """One time travel clause.

    Attributes:
        range: where it stands in the text.
        literal: its version or time; None where `expression` must be worked out first.
        after: index of the token behind it.
    """

    range: tuple[int, int]
    is_version: bool
    literal: str | None
    expression: str
    after: int


def clause(tokens: Sequence[Token], index: int, text: str) -> Clause | None:
    """Return the clause `[FOR] [SYSTEM_]VERSION|TIMESTAMP|TIME AS OF ...` that begins with the token at `index`."""
    first = index + (index < len(tokens) and tokens[index].text.upper() == "FOR")
    for length in (1, 3):  # one token or three, as sqlglot's releases go
        begin = first + length
        word = _WORDS.get(" ".join(token.text.upper() for token in tokens[first:begin]))
        end = _expression(tokens, begin) if word else begin
        if word and end > begin:
            place = (tokens[index].start, tokens[end - 1].end + 1)
            literal = _literal(tokens[begin:end])
            said = text[tokens[begin].start : place[1]] if literal is None else ""
            return Clause(place, word == "VERSION", literal, said, end)
    return None


def _literal(tokens: Sequence[Token]) -> str | None:
    """Return what one literal says, with or without its type; a bare word is a tag for us."""
    typed = len(tokens) == 2 and tokens[0].text.upper() in ("TIMESTAMP", "DATE") and tokens[1].token_type in _LITERALS
    plain = len(tokens) == 1 and (tokens[0].token_type in _LITERALS or not tokens[0].text.upper().startswith("CURRENT_"))
    return tokens[-1].text if typed or plain else None


def _expression(tokens: Sequence[Token], index: int) -> int:
    """Return the index behind the expression that begins at `index`; `index` itself where none does."""
    end = _operand(tokens, index)
    while end > index and end < len(tokens):
        if tokens[end].token_type is TokenType.DCOLON or tokens[end].text in _OPERATORS:
            more = _operand(tokens, end + 1)
        else:
            break
        if more == end + 1:
            break
        end = more
    return end


def _operand(tokens: Sequence[Token], index: int) -> int:
    if index >= len(tokens):
        return index
    token, word = tokens[index], tokens[index].text.upper()
    if token.text in ("-", "+"):
        end = _operand(tokens, index + 1)
        return end if end > index + 1 else index
    if token.text == ":":
        return index + 2 if index + 1 < len(tokens) and tokens[index + 1].text.isidentifier() else index
    if token.token_type is TokenType.L_PAREN:
        return _closed(tokens, index)
    if token.token_type in _LITERALS:
        return index + 1
    if word in ("TIMESTAMP", "DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ") and _is(tokens, index + 1, _LITERALS):
        return index + 2
    if word == "INTERVAL":
        return _interval(tokens, index + 1)
    if not token.text.isidentifier() or word in _ENDS:
        return index
    return _closed(tokens, index + 1) if _is(tokens, index + 1, (TokenType.L_PAREN,)) else index + 1


def _interval(tokens: Sequence[Token], index: int) -> int:
    """`'1' DAY`, `1 DAY 2 HOURS`, `'1 02:03' DAY TO MINUTE`, `'1 day'`."""
    while index < len(tokens):
        token = tokens[index]
        signed = token.text in ("-", "+") and _is(tokens, index + 1, _LITERALS)
        if token.token_type not in _LITERALS and token.text.upper() not in _UNITS and not signed:
            break
        index += 1
    return index


def _closed(tokens: Sequence[Token], index: int) -> int:
    """Return the index behind the parenthesis that opens at `index`; `index` where it never closes."""
    depth = 0
    for i in range(index, len(tokens)):
        kind = tokens[i].token_type
        depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
        if depth == 0:
            return i + 1
    return index


def _is(tokens: Sequence[Token], index: int, kinds: Sequence[TokenType]) -> bool:
    return index < len(tokens) and tokens[index].token_type in kinds
