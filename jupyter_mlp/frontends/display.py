"""How objects look in a notebook: one renderer for all, registered once. Every text from outside is escaped."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import Any

from jupyter_mlp.core.cards import Card, Figure, Shown, Table, as_text, shown
from jupyter_mlp.core.identity import digest

MIME = "application/vnd.jupyter-mlp+json"
_LONGEST, _STRETCH, _MOST_STRETCHES = 200, 64, 1000  # items of a list

# Theme colours of JupyterLab where there are any; readable without (papermill output, review, VS Code).
_STYLE = """<style>
.mlp-card{font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45;max-width:100%}
.mlp-card .mlp-title{font-weight:600;font-size:14px;margin:2px 0 4px;overflow-wrap:anywhere}
.mlp-card dl{display:grid;grid-template-columns:max-content 1fr;gap:0 14px;margin:0 0 6px}
.mlp-card dt{color:var(--jp-ui-font-color2,#777);white-space:nowrap}.mlp-card dd{margin:0;overflow-wrap:anywhere}
.mlp-card .mlp-scroll{overflow-x:auto}
.mlp-card table{border-collapse:collapse;margin:4px 0;font-variant-numeric:tabular-nums}
.mlp-card th,.mlp-card td{padding:2px 10px 2px 0;text-align:left!important;white-space:nowrap;background:none;
border-bottom:1px solid var(--jp-border-color2,#e0e0e0)}
.mlp-card td.mlp-n,.mlp-card th.mlp-n{text-align:right!important}
.mlp-card th small{font-weight:400;color:var(--jp-ui-font-color2,#777)}
.mlp-card .mlp-caption,.mlp-card .mlp-note{color:var(--jp-ui-font-color2,#777);font-size:12px}
.mlp-card img{max-width:100%;background:#fff;border-radius:3px;margin:4px 8px 4px 0}
.mlp-card pre{font-size:12px;line-height:1.35;margin:4px 0;background:none}
</style>"""


def register(shell: Any) -> None:
    """Teach the shell to show every object of ours."""
    shell.display_formatter.mimebundle_formatter.for_type(Shown, bundle)


def bundle(thing: Shown, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """Return what a notebook keeps of `thing`: HTML, text, and JSON for programs."""
    card = thing.card()
    return {"text/plain": as_text(card), "text/html": as_html(card), MIME: _kept(thing.to_dict())}


def _kept(value: Any) -> Any:
    """Lists that are too long to keep in a notebook as their beginning and what tells the rest from another's.

    A million characters of predictions are written again with every cell that a notebook's run adds.
    """
    if isinstance(value, dict):
        return {name: _kept(one) for name, one in value.items()}
    if not isinstance(value, list) or len(value) <= _LONGEST:
        return value
    begins = {"of": len(value), "first": value[:_LONGEST]}
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in value):
        return {**begins, "digest": digest(value)}
    # Weighted sums of short stretches, because another machine may differ in each last digit; positive and negative apart, so
    # that nothing cancels out, and weighted by place, so that two that changed places show.
    length = max(_STRETCH, len(value) // _MOST_STRETCHES)
    stretches = [list(enumerate(value[at : at + length], 1)) for at in range(0, len(value), length)]
    above = [math.fsum(place * x for place, x in stretch if x > 0) for stretch in stretches]
    below = [math.fsum(place * x for place, x in stretch if x < 0) for stretch in stretches]
    return {**begins, "above": above, "below": below}


def as_html(card: Card) -> str:
    """Return the card as HTML without any script."""
    parts = [f"<div class='mlp-title'>{escape(card.title)}</div>"]
    if card.facts:
        rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(shown(value))}</dd>" for label, value in card.facts)
        parts.append(f"<dl>{rows}</dl>")
    parts += [_table(table) for table in card.tables]
    parts += [_figure(figure) for figure in card.figures]
    if card.svg:
        parts.append(f"<div class='mlp-scroll'>{card.svg}</div>")
    elif card.text:
        parts.append(f"<pre>{escape(card.text)}</pre>")
    parts += [f"<div class='mlp-note'>{escape(note)}</div>" for note in card.notes]
    return f"{_STYLE}<div class='mlp-card'>{''.join(parts)}</div>"


def _table(table: Table) -> str:
    numeric = [_is_numeric(table, i) for i in range(len(table.columns))]
    head = "".join(f"<th{_side(n)}>{_heading(name)}</th>" for name, n in zip(table.columns, numeric, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_side(n)}>{escape(_clip(shown(cell)))}</td>" for cell, n in zip(row, numeric, strict=True)) + "</tr>"
        for row in table.rows
    )
    caption = f"<div class='mlp-caption'>{escape(table.caption)}</div>" if table.caption else ""
    return f"<div class='mlp-scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{caption}"


def _is_numeric(table: Table, column: int) -> bool:
    values = [row[column] for row in table.rows if row[column] is not None]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _side(numeric: bool) -> str:
    return " class='mlp-n'" if numeric else ""


def _heading(name: str) -> str:
    first, _, rest = name.partition("\t")
    return f"{escape(first)} <small>{escape(rest)}</small>" if rest else escape(first)


def _figure(figure: Figure) -> str:
    if not figure.png:
        return f"<div class='mlp-note'>{escape(figure.title)}: {escape(figure.alt)}</div>"
    data = base64.b64encode(figure.png).decode("ascii")
    said = escape(figure.alt or figure.title, quote=True)
    return f"<img alt='{said}' title='{escape(figure.title, quote=True)}' src='data:image/png;base64,{data}'>"


def _clip(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
