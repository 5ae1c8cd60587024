"""Between steps 1 and 2: recipes, preprocessing that is said once and used in batch, in training and online."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe_text import parse, spelled
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import datasets, elsewhere, recipes
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.recipes import RecipeVersion
from jupyter_mlp.store.workspace import current

Progress = Callable[[int, int, int], None]


def recipe(
    name: str | None = None,
    steps: str | Mapping[str, str] | None = None,
    *,
    data: str | DatasetVersion | None = None,
    target: str | None = None,
    task: str | None = None,
    progress: Progress | None = None,
) -> RecipeVersion:
    """Say how columns become numbers, fit that on a dataset version, or show a recipe made before.

    A definition has one line for a column or a pattern, with steps from left to right; columns that no line names are left
    out. Steps: impute, log, scale, bucket, cyclic, time, vocabulary, hash, one-hot, embedding, tokens, image; alone on
    their line: target, drop, default. The same text, and the same text on the same data, is the same version.

    Args:
        name: the recipe's name; without it and with `data`, the default recipe for that data.
        steps: the text, or a mapping from column to its steps; left out, the newest recipe of that name.
        data: the dataset version to fit it on, by Spark where it is large.
        target, task: what to predict, where the recipe does not say it.

    Raises:
        NotFoundError: the recipe, the data or a column is unknown; the message names the nearest.
        InvalidInputError: the text is wrong (line, column, nearest word), or a step does not fit its column.

    Example:
        >>> mlp.recipe("delays", {"dep_delay": "impute median | scale", "carrier": "one-hot 20", "arr_delay": "target"})
    """
    workspace = current()
    if name is None and (steps is not None or data is None):
        raise InvalidInputError(
            "Which recipe?", "%mlp_recipe NAME shows one; %%mlp_recipe NAME makes one of lines like carrier: one-hot 20"
        )
    if steps is not None:
        definition = parse(steps if isinstance(steps, str) else spelled(steps))
        found: RecipeVersion | None = recipes.define(workspace, str(name), definition)
    else:
        found = recipes.load(workspace, name) if name is not None else None
    if data is None:
        assert found is not None
        return found
    dataset = elsewhere.load(workspace, data)
    return recipes.fit(workspace, found, dataset, target, task, progress)


def features(
    recipe: str | RecipeVersion, *, data: str | DatasetVersion, into: str = "features", progress: Progress | None = None
) -> DatasetVersion:
    """Apply a fitted recipe to a dataset version by Spark and return the features as a dataset version.

    Columns: `features` (an array of float32, named by the recipe's `fitted.names`) and, with a target, `label`.

    Args:
        recipe: a fitted version, or a recipe that is then fitted on the data. `into`: the new dataset's name.

    Raises:
        NotFoundError: the recipe, the data or a column is unknown.

    Example:
        >>> mlp.features("delays", data="trips", into="trips_features")
    """
    begun = time.perf_counter()
    workspace = current()
    dataset = data if isinstance(data, DatasetVersion) else datasets.load(workspace, data)
    fitted = recipes.for_training(workspace, recipe, dataset, None, None)
    assert fitted.fitted is not None
    learned = fitted.fitted
    used: list[Ref] = [dataset.reference, fitted.reference]
    with workspace.activities.recording("features", name=into, used=used, parameters={"recipe": fitted.ref, "data": dataset.ref}) as draft:

        def write(folder: Path) -> list[str]:
            workspace.engine.write_features(dataset.files, dataset.schema, learned, folder, progress)
            return [f"features in the order of {fitted.reference.short}"]

        ref = datasets.publish(workspace, draft, into, write)
    made = datasets.of_activity(workspace, draft.activity, ref, lambda: workspace.engine)
    return replace(made, seconds=time.perf_counter() - begun)
