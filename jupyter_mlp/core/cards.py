"""Cards: what an object shows of itself, once, for the notebook (HTML), the terminal (text) and programs (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Rows under column names; cells are shown as text, never interpreted as markup.

    What follows a tab in a column's name is said in passing, such as its type.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


class Figure(NamedTuple):
    """A picture that works everywhere: a Vega-Lite specification, its PNG form, and a sentence for text."""

    title: str
    vega_lite: dict[str, Any] | None = None
    png: bytes | None = None
    alt: str = ""


class Card(NamedTuple):
    """A title, a few facts, tables, pictures, and notes the reader must not miss."""

    title: str
    facts: Sequence[tuple[str, Any]] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    text: str = ""  # a preformatted block, such as a graph or a log tail
    svg: str = ""  # drawn by us from escaped text only


class Shown:
    """Base of every object the verbs return: a reference, typed JSON, and a card."""

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        raise TypeError(f"{type(self).__name__} has no reference")

    def to_dict(self) -> dict[str, Any]:
        """Return everything a program needs, as JSON types."""
        raise TypeError(f"{type(self).__name__} has no JSON form")

    def card(self) -> Card:
        """Return what a person is shown."""
        raise TypeError(f"{type(self).__name__} has no card")

    def __repr__(self) -> str:
        return as_text(self.card())


def as_text(card: Card, width: int = 100) -> str:
    """Return the card as plain text, at most about `width` characters wide."""
    lines = [card.title]
    pad = max((len(label) for label, _ in card.facts), default=0)
    lines += [f"  {label:<{pad}}  {shown(value)}" for label, value in card.facts]
    for table in card.tables:
        lines += ["", *_table_lines(table, width)]
    lines += [f"  [{figure.title}: {figure.alt or 'a picture, shown in notebooks'}]" for figure in card.figures]
    if card.text:
        lines += ["", card.text]
    lines += [f"  note: {note}" for note in card.notes]
    return "\n".join(line.rstrip() for line in lines)


def shown(value: Any) -> str:
    """Return one value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(v) for v in value)
    return str(value)


def size_text(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def count_text(count: int, noun: str) -> str:
    """Return "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _table_lines(table: Table, width: int) -> list[str]:
    cells = [[_clip(shown(c)) for c in row] for row in [table.columns, *table.rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    kept = _columns_that_fit(widths, width)
    more = "" if kept == len(widths) else f"  (+{len(widths) - kept} columns)"
    lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(row[:kept], widths[:kept], strict=True)) for row in cells]
    lines.insert(1, "  " + "  ".join("-" * w for w in widths[:kept]))
    return ([table.caption] if table.caption else []) + [lines[0] + more, *lines[1:]]


def _columns_that_fit(widths: Sequence[int], width: int) -> int:
    total, kept = 2, 0
    for one in widths:
        total += one + 2
        if total > width and kept:
            break
        kept += 1
    return kept


def _clip(text: str, limit: int = 40) -> str:
    text = text.replace("\n", " ").replace("\t", " ")
    return text if len(text) <= limit else text[: limit - 3] + "..."
