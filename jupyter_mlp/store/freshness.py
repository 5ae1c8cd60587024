"""Whether there is newer data than what something was made from."""

from __future__ import annotations

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace


def newer(workspace: Workspace, ref: str) -> Ref | None:
    """Return what is newer than a dataset version: a version of its name, or of a table that it was computed from."""
    if not ref.startswith(("dataset:", "table:")):
        return None
    known = Ref.parse(ref)
    if known.kind == "table":
        current = workspace.lake.current(known.name)
        return Ref("table", known.name, current) if current not in (None, known.version) else None
    newest = workspace.activities.newest("dataset", known.name)
    if newest is not None and newest != known:
        return newest
    made = workspace.activities.maker(known)
    for used in made.used if made else ():
        now = workspace.lake.current(used.name) if used.kind == "table" else None
        if now is not None and now != used.version:
            return Ref("table", used.name, now)
    return None
