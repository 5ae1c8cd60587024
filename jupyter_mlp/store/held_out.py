"""The rows that a model did not learn from: what it is fairly measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import batches, elsewhere
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def rows(workspace: Workspace, model: Model, most: int) -> tuple[Ref, pa.Table]:
    """Return the dataset version and the rows: those of the training's validation dataset, or those held out of its data.

    Raises:
        InvalidInputError: it was trained on no dataset, or has no target.
    """
    made = workspace.activities.maker(Ref("model", model.uuid))
    told = made.parameters if made and made.kind == "train" else {}
    if told.get("validation"):
        return all_of(model, elsewhere.load(workspace, told["validation"]), most)
    if not str(model.card_data.get("data") or "").startswith(("dataset:", "table:", "file:")):
        raise InvalidInputError(
            f"{model.name} was trained on no dataset of this workspace.", "Write --data DATASET to measure on its rows."
        )
    dataset = elsewhere.load(workspace, model.card_data["data"])
    seed = int(model.card_data.get("seed", 7))
    plan = batches.split(dataset.files, model.recipe, batches.SHARE_HELD_OUT, seed, dataset.pins, dataset.folders)
    return dataset.reference, batches.raw(plan, batches.HELD_OUT, _columns(model), most)


def all_of(model: Model, data: DatasetVersion, most: int) -> tuple[Ref, pa.Table]:
    """Return a dataset version and its first rows, as this model reads them."""
    return data.reference, data.to_arrow(_columns(model)).slice(0, most)


def _columns(model: Model) -> list[str]:
    if model.target is None:
        raise InvalidInputError(f"{model.name} has no target column, so nobody knows what it loses.", "Train it with --target COLUMN.")
    return list(dict.fromkeys([*model.recipe.columns, model.target]))
