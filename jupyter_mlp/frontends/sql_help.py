"""What is known of a table, a dataset or a namespace of tables, in a few lines."""

from __future__ import annotations

from html import escape

from jupyter_mlp.core.cards import count_text
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends import sql_words
from jupyter_mlp.store.workspace import Workspace

_MOST = 60  # columns told


def told(workspace: Workspace, name: str) -> dict[str, str] | None:
    """Return what is known of a table, a dataset or a namespace of tables, as text and as HTML; None where there is none of the name."""
    found = sql_words.known(workspace, name)
    text = _namespace(workspace, name) if found is None else _thing(workspace, name, *found)
    return {"text/plain": text, "text/html": f"<pre>{escape(text)}</pre>"} if text else None


def _namespace(workspace: Workspace, name: str) -> str:
    """The tables of `lake`: front ends ask for the part of `lake.flights` that the cursor is on."""
    tables = [one for one in sql_words.newest(workspace, "table") if one.startswith(f"{name}.")]
    return "\n".join([f"{len(tables)} tables of {name}", "", *tables[:_MOST]]) if tables else ""


def _thing(workspace: Workspace, name: str, ref: Ref, activity: Activity) -> str:
    columns = sql_words.columns(workspace, name)
    rows = activity.facts.get("dataset", {}).get("rows") if ref.kind == "dataset" else activity.facts.get("rows")
    size = count_text(len(columns), "column")
    size = f"{count_text(rows, 'row')} x {size}" if isinstance(rows, int) else size
    lines = [ref.short, f"{size}, made by {activity.user} ({activity.kind})", ""]
    width = max((len(column) for column, _ in columns), default=0)
    lines += [f"{column:<{width}}  {kind}" for column, kind in columns[:_MOST]]
    if len(columns) > _MOST:
        lines.append(f"and {len(columns) - _MOST} more")
    if sql := str(activity.parameters.get("sql", ""))[:2_000]:
        lines += ["", sql]
    return "\n".join(lines)
