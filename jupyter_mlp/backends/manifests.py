"""An endpoint as other service managers run it: systemd on this machine, KServe on Kubernetes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jupyter_mlp.core import systemd as systemd_words
from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import deployments
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.templates import rendered
from jupyter_mlp.store.workspace import Workspace

_PACKAGE = Path(__file__).resolve().parents[2]


def systemd(workspace: Workspace, folder: EndpointFolder, reference: str) -> str:
    """Return a unit that starts the endpoint's host again, with whatever is wanted of the endpoint then."""
    if folder.where != LOCAL:
        raise InvalidInputError(
            f"{folder.name} runs on the cluster {folder.where.name}, which starts it again by itself.", "systemd is for this machine."
        )
    command = [sys.executable, "-m", "jupyter_mlp.serving.host", "--wait", str(folder.path), *_roots(workspace)]
    environment = [f"PYTHONPATH={_PACKAGE}"]  # the host runs the code of this kernel, wherever it was imported from
    words = {
        "name": folder.name,
        "command": systemd_words.quoted(command),
        "environment": systemd_words.quoted(environment, variables=False),
    }
    return rendered("endpoints/endpoint.service", words)


def kserve(workspace: Workspace, folder: EndpointFolder, reference: str) -> str:
    """Return an InferenceService with the models and weights that are wanted now; JSON is YAML too."""
    variants = json.dumps(folder.wanted()["variants"])
    arguments = [folder.name, "--variants", variants, "--port", "8080", "--listen", "0.0.0.0"]
    if folder.where == LOCAL and folder.processes > 1:
        arguments += ["--replicas", str(folder.processes)]
    arguments += _roots(workspace)
    words = {
        "name": folder.name,
        "service": folder.name.replace("_", "-").strip("-"),
        "reference": json.dumps(reference),
        "arguments": json.dumps(arguments),
        "root": json.dumps(str(workspace.root)),
    }
    return rendered("endpoints/inferenceservice.yaml", words)


def _roots(workspace: Workspace) -> list[str]:
    return [str(path) for path in deployments.model_roots(workspace)]
