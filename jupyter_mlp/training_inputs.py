"""What a training is asked for, checked before anything of it is written: refused here, and not a minute later by the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp import models
from jupyter_mlp.core import trainer_arguments
from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.notebook import capture as code
from jupyter_mlp.notebook import own
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.recipes import RecipeVersion

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def is_premade(model: Any) -> bool:
    """Whether a model is named as one of ours: mlp:tabular."""
    return isinstance(model, str) and model.startswith("mlp:")


def premade(model: Any) -> Any:
    """Turn mlp:tabular into the class of that name."""
    if is_premade(model):
        return models.source_of(model.removeprefix("mlp:"))
    return model


def folder_of(model: Any) -> Path:
    """Return where relative paths of the code begin: here, or where the notebook lies that a model is named in."""
    if isinstance(model, str) and ".ipynb:" in model:
        return Path(model.rpartition(":")[0]).resolve().parent
    return Path.cwd()


def brought_names(model: Any, data: Any, validation: Any, values: Mapping[str, Any]) -> dict[str, str | None] | None:
    """Return the names of the data module or loaders of the user's own; None where the data is a dataset version."""
    found = {"data": data, "validation": validation}
    for what, one in found.items():
        if not isinstance(one, str | None) and own.is_data(one):
            found[what] = own.name_of(one, values, what)
    if data is None or found["data"] is not data or own.is_data(values.get(str(data))):
        return found
    if isinstance(data, str) and isinstance(model, str) and ".py:" in model:
        path = Path(model.rpartition(":")[0])
        if path.is_file() and data in own.defined(path.read_text(encoding="utf-8")):
            return found
    return None


def check_brought(brought: Mapping[str, Any], captured: code.Captured, target: str | None, recipe: Any) -> None:
    """Refuse batches of the user's own where there are none, and what is said of columns that there are not."""
    if brought["data"] is None and not own.has_method(captured.source, "train_dataloader"):
        raise InvalidInputError(
            f"Which data? {captured.class_name} has no train_dataloader() of its own.",
            "Give --data DATASET --target COLUMN, or --data with a LightningDataModule or DataLoader of this notebook.",
        )
    if target is not None or recipe is not None:
        raise InvalidInputError(
            f"{'--target' if target else '--recipe'} is said of the columns of a dataset, and this model brings its own batches.",
            "Leave it out, or give --data DATASET.",
        )


def check_learnable(
    dataset: DatasetVersion, held: DatasetVersion | None, recipe: RecipeVersion | None, target: str | None, task: str | None
) -> None:
    """Refuse here and now what the job could only refuse later."""
    from jupyter_mlp.core.fitting import prepared
    from jupyter_mlp.core.recipe import DEFAULT
    from jupyter_mlp.core.recipe_text import parse
    from jupyter_mlp.core.values import kind_of, same_kind

    chosen = prepared(recipe.definition if recipe else parse(DEFAULT), dataset.schema, target, task)
    for column in [need.column for need in chosen.needs] if held else ():
        if held is not None and column not in held.schema.names:
            raise InvalidInputError(
                f"{held.reference.short} has no column {column}, which {dataset.reference.short} has.",
                nearest(column, held.schema.names),
            )
        if held is not None and not same_kind(held.schema.field(column), kind_of(dataset.schema.field(column))):
            was, now = dataset.schema.field(column).type, held.schema.field(column).type
            raise InvalidInputError(
                f"{column} is {was} in {dataset.reference.short} and {now} in {held.reference.short}.", "Cast it in one of the queries."
            )


def settings_of(captured: code.Captured, given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the model's constructor as they travel; one that it does not take is refused."""
    if given and own.is_model(values.get(captured.class_name)):
        raise InvalidInputError(
            f"{captured.class_name} is a model that was made already, so it takes no settings.", "Change the cell that makes it."
        )
    known = code.constructor_names(captured)
    for name in given:
        if known is not None and name not in known:
            raise InvalidInputError(f"{captured.class_name} takes no setting {name}.", nearest(name, known) or "Leave --set out.")
    return {name: trainer_arguments.travels(name, value) for name, value in given.items()}


def pace(every: int | str) -> dict[str, float]:
    """Return when checkpoints are due, as the run's spec says it."""
    number, unit = _time(every) or (0.0, None)
    if unit is None:
        raise InvalidInputError(
            f"Checkpoints every {every!r} is no number of steps and no time.", "Give 100 (steps), 30s, 5min or 1h; 0 for none."
        )
    return {"seconds": number * _UNITS[unit]} if unit else {"steps": int(number)}


def stall(limit: int | str) -> float:
    """Return for how many seconds a training may stand still; 0 for ever."""
    number, unit = _time(limit) or (1.0, "")
    if not unit and number:
        raise InvalidInputError(f"A training that may stand still for {limit!r}: that is no time.", "Give 10min or 1h; 0 for ever.")
    return number * _UNITS[unit] if unit else 0.0


def _time(given: int | str) -> tuple[float, str] | None:
    """Read a number and its unit of time, which may be none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(|s|m|min|h)", str(given).strip())
    return (float(found[1]), found[2]) if found else None
