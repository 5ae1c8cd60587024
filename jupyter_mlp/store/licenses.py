"""The license of a model, said after it was made: models never change, so it is a record of its own, and the newest one counts."""

from __future__ import annotations

import json
import re

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace

KIND = "license"
_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:()\- ]{0,99}")


def put(workspace: Workspace, model: Model, license: str) -> None:
    """Record under which license a model is.

    Raises:
        InvalidInputError: it is no SPDX identifier or expression.
    """
    if not _TEXT.fullmatch(license):
        raise InvalidInputError(
            f"{license[:100]!r} names no license.", "Write its SPDX identifier, like MIT, Apache-2.0 or LicenseRef-internal; NONE for none."
        )
    used, parameters = [Ref("model", model.uuid)], {"model": model.ref, "license": license}
    with workspace.activities.recording(KIND, name=model.uuid, used=used, parameters=parameters) as draft:
        draft.facts["license"] = license


def find(workspace: Workspace, model: str) -> str | None:
    """Return the license of a model by its UUID, or of the one that it was made of, or None."""
    said = workspace.activities.latest(KIND, model)
    if said:
        return str(said.facts["license"])
    path = workspace.find("models", model, "model.json")
    origin = json.loads(path.read_bytes()).get("derived_from") if path.exists() else None  # that one's files may be gone by now
    return find(workspace, origin.removeprefix("model:")) if origin else None
