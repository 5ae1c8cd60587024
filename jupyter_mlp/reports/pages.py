"""A card as one HTML page that needs nothing else: no scripts, no links, pictures inside."""

from __future__ import annotations

import base64
from html import escape

from jupyter_mlp.core.cards import Card, Figure, Table, shown

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.3rem; } table { border-collapse: collapse; margin: 1rem 0; } caption { text-align: left; color: #555; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 1rem 1rem 0 0; } figcaption { color: #555; font-size: .85rem; } pre { overflow-x: auto; }
.note { border-left: 3px solid #e0a030; padding-left: .7rem; }
"""


def page(card: Card) -> str:
    """Return the card as a self-contained HTML page; every text of it is escaped."""
    parts = [f"<h1>{escape(card.title)}</h1>"]
    if card.facts:
        rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(shown(value))}</td></tr>" for label, value in card.facts)
        parts.append(f"<table>{rows}</table>")
    parts += [_table(table) for table in card.tables]
    parts += [_figure(figure) for figure in card.figures]
    if card.text:
        parts.append(f"<pre>{escape(card.text)}</pre>")
    parts += [f'<p class="note">{escape(note)}</p>' for note in card.notes]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    head += f"<title>{escape(card.title)}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(shown(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f"<table>{caption}<tr>{head}</tr>{rows}</table>"


def _figure(figure: Figure) -> str:
    if figure.png is None:
        return f"<p>{escape(figure.title)}: {escape(figure.alt)}</p>"
    source = base64.b64encode(figure.png).decode()
    said = escape(figure.alt)
    return f'<figure><img alt="{said}" src="data:image/png;base64,{source}"><figcaption>{said}</figcaption></figure>'
