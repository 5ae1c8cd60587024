"""Names that point at models and move: `model:champion` is whichever model was named so last.

A move is one record, so a reader sees the old model or the new one, and all moves together are the alias's history.
"""

from __future__ import annotations

import re

from jupyter_mlp.core.entities import FINISHED, Activity
from jupyter_mlp.core.errors import ConflictError, InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

KIND = "alias"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_MOST = 500


def find(workspace: Workspace, name: str) -> str | None:
    """Return the UUID of the model that an alias points at, or None."""
    moved = workspace.activities.latest(KIND, name)
    return moved.facts.get("model") if moved else None


def move(workspace: Workspace, name: str, model: str | None, asked: str = "") -> str | None:
    """Point an alias at a model, or at nothing with None; return the model it pointed at before.

    Raises:
        InvalidInputError: it is no name. ConflictError: models were trained under that name.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} cannot name an alias.", "Use letters, digits, - _ and ., like champion.")
    if workspace.activities.latest("train", name) is not None:
        raise ConflictError(f"{name} is the name of trained models, so it cannot be an alias too.", "Choose another, like champion.")
    used = [Ref("model", model)] if model else []
    with workspace.activities.recording(KIND, name=name, used=used, parameters={"alias": name, "model": asked}) as draft:
        before = find(workspace, name)
        workspace.activities.pins.pop(f"model:{name}", None)
        draft.facts.update(model=model, before=before)
    return before


def history(workspace: Workspace, name: str) -> list[Activity]:
    """Return the moves of an alias, newest first."""
    return [one for one in workspace.activities.recent([KIND], limit=_MOST, state=FINISHED) if one.name == name]


def all_of(workspace: Workspace) -> dict[str, str]:
    """Return every alias with the UUID it points at."""
    found: dict[str, str | None] = {}
    for one in workspace.activities.recent([KIND], limit=_MOST, state=FINISHED):
        found.setdefault(str(one.name), one.facts.get("model"))
    inherited = all_of(workspace.parent) if workspace.parent else {}
    return inherited | {name: model for name, model in sorted(found.items()) if model}
