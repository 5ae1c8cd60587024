"""The names of endpoints: what each serves now, and who may serve what under it."""

from __future__ import annotations

import getpass
from typing import Any

from jupyter_mlp.core.errors import ConflictError
from jupyter_mlp.serving import routing
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store import registry
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace


def check_free(workspace: Workspace, folder: EndpointFolder, model: Any) -> None:
    """Refuse a name that serves other questions, or belongs to somebody else.

    Raises:
        ConflictError: it does; the hint has another name.
    """
    wanted = folder.wanted()
    if not wanted or wanted.get("stopped"):
        return
    best = routing.champion(served(folder))
    other = f"Choose another name: %mlp_deploy {model.name} --to {folder.name}_2"
    if wanted.get("user") != getpass.getuser() or wanted.get("workspace") != str(workspace.root):
        raise ConflictError(
            f"The endpoint name {folder.name} is taken: it serves {best.model if best else 'nothing'} "
            f"of {wanted.get('user')} in {wanted.get('workspace')}.",
            other,
        )
    if best is None or best.model == model.uuid:
        return
    champion = registry.load(workspace, f"model:{best.model}")
    if _question(champion) != _question(model):
        raise ConflictError(
            f"The endpoint name {folder.name} is taken: it serves {champion.name} ({best.model[:8]}), which answers "
            f"{', '.join(_question(champion)[1])}; {model.name} answers {', '.join(_question(model)[1])}.",
            other,
        )


def _question(model: Any) -> tuple[Any, list[str]]:
    """What callers of an endpoint rely on: the task and the names of the input columns."""
    return model.task, sorted(model.inputs)


def served(folder: EndpointFolder) -> tuple[Variant, ...]:
    """What the endpoint serves, or would if its host had not been lost with the machine; nothing when it is stopped."""
    wanted = folder.wanted()
    return routing.read(wanted["variants"]) if wanted and not wanted.get("stopped") else ()
