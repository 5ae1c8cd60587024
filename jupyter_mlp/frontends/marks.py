"""Marks: a front end that shows them says what stands in its notebook, and is told the state of every cell, and what uses it.

    kernel  -- comm_open jupyter_mlp.marks ------------------------------>  front end   (those that know no marks ignore it)
    kernel  <-- {"cells": [{"id", "source", "tags"}, ...]} --------------  front end   after a cell ran, or was edited
    kernel  -- {"cells": {id: {"state", "reason"}, ...}, "used": {id: text, ...}} -->  front end

Only the kernel knows what ran, only the front end what stands there unsaved; nothing is run for it.
"""

from __future__ import annotations

from typing import Any

TARGET = "jupyter_mlp.marks"
_MOST = 5_000  # cells of a notebook


def register(shell: Any) -> None:
    """Offer the marks, where the shell belongs to a kernel; registering twice changes nothing."""
    if getattr(shell, "kernel", None) is None or getattr(shell, "_mlp_marks", None) is not None:
        return
    from comm import create_comm

    comm = shell._mlp_marks = create_comm(target_name=TARGET, data={})
    comm.on_msg(lambda message: comm.send(states(shell, message["content"]["data"])))


def states(shell: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the state of every code cell that was told of, by id, and what was made from the datasets of those that make one."""
    from jupyter_mlp.frontends import used_by
    from jupyter_mlp.notebook import document, history, record

    told = asked.get("cells", [])[:_MOST]
    shown = [record.Shown(str(one["id"]), str(one["source"]), frozenset(map(str, one.get("tags", ())))) for one in told]
    found = record.of_editor(shown, history.finished_cells(shell))
    used = used_by.of_cells({one.id: document.python_of(one.source) for one in shown if "mlp" in one.source})
    return {"cells": {cell: {"state": state.state, "reason": state.reason} for cell, state in found.items()}, "used": used}
