"""What a model answers to rows that it did not learn from: what its answers of now are compared with.

Measured once per model, when an endpoint is first looked at, and kept beside the endpoint's files.
"""

from __future__ import annotations

import json
from typing import Any

from jupyter_mlp.core import drift
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.store import held_out, registry
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

_READ = 100_000  # rows of which evenly some are answered: the first alone may all be of one day
_ANSWERED = 5_000


def measured(workspace: Workspace, folder: EndpointFolder, uuid: str) -> dict[str, Any]:
    """Return what `core.drift.compare` takes as known of a model's answers.

    Raises:
        MLPError: the rows or the model are not there any more.
    """
    path = folder.path / f"expected-{uuid}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        found = _measure(workspace, uuid)
        publish_bytes(path, json.dumps(found).encode())
    return found


def _measure(workspace: Workspace, uuid: str) -> dict[str, Any]:
    from jupyter_mlp.serving.predictor import Predictor

    model = registry.load(workspace, f"model:{uuid}")
    data, table = held_out.rows(workspace, model, _READ)
    if not len(table):
        raise InvalidInputError(f"No row of {data.short} was held out from the training.", "Train with --validation DATASET.")
    table = table.take(list(range(0, len(table), max(1, len(table) // _ANSWERED)))).select(model.recipe.columns)
    predictor = Predictor.load(model.folder)
    try:
        said = predictor.predict_columns({name: table.column(name) for name in table.schema.names}).values
    finally:
        predictor.close()
    return drift.described([json_ready(value) for value in said], as_class=model.task in ("binary", "multiclass"))
