"""What a training leaves: weights, exported graph, code and card, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from safetensors.torch import save_file

from jupyter_mlp.backends import onnx
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.core.identity import plain
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.store import environment
from jupyter_mlp.store.artifacts import publish_folder
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.row_groups import RowGroups

Spec = Mapping[str, Any]
_ROWS = 64  # that the exported graph is tried with
_UNMADE = {"kind": "weights", "why": "its layers are made in configure_model(), for the processes of its training alone"}
_OWN = {"kind": "weights", "why": "it learned from batches of its own code, and no recipe makes its inputs of columns"}


def publish(
    run: RunFolder, spec: Spec, model: L.LightningModule | None, weights: Spec, recipe: Recipe | None, arguments: Spec, facts: Spec
) -> None:
    """Publish the result of a run.

    Args:
        model: None where its layers cannot be made outside of its training.
        weights: the state of the whole model, wherever its parts were.
        recipe: None for a model that learned from batches of its own code: it has no columns, so nothing serves it.
    """
    run.say({"note": "exporting"})
    whole = model.cpu().eval() if model is not None else None

    def write(folder: Path) -> None:
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
        save_file(tensors, folder / "weights.safetensors")
        card = {**_known(spec, arguments, facts), "recipe": None, "signature": {"inputs": []}, "export": _OWN}
        if recipe is not None:
            table = _some_rows(spec["data"], recipe)
            sample = torch.from_numpy(recipe.features({name: table.column(name) for name in recipe.columns}))
            card |= _of_columns(recipe, table)
            card["export"] = onnx.export(whole, sample, folder / "model.onnx") if whole is not None else _UNMADE
        _copy(run.path / "code", folder / "code")
        RunFolder(folder).write("card.json", card)

    publish_folder(run.path / "result", write)


def _known(spec: Spec, arguments: Spec, facts: Spec) -> dict[str, Any]:
    known: dict[str, Any] = plain(
        {
            "name": spec["class_name"],
            "run": f"run:{spec['run']}",
            "data": spec["data"]["ref"],
            "prepared_by": spec["recipe"],
            "task": None,
            "target": None,
            "classes": None,
            "arguments": dict(arguments),
            "seed": spec["seed"],
            "environment": environment.describe(),
            **facts,
        }
    )
    return {name: value for name, value in known.items() if name != "prepared_by" or value}


def _of_columns(recipe: Recipe, table: Any) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in table.schema}
    told: dict[str, Any] = plain(
        {
            "task": recipe.task,
            "target": recipe.target,
            "classes": list(recipe.classes) if recipe.classes else None,
            "signature": {"inputs": [{"name": name, "type": types[name], "nullable": True} for name in recipe.columns]},
            "example": {name: json_ready(value) for name, value in table.slice(0, 1).to_pylist()[0].items()},
        }
    )
    return {**told, "recipe": recipe.to_dict()}


def _some_rows(data: Spec, recipe: Recipe) -> Any:
    reader = RowGroups(data.get("pins", {}), data.get("folders"))
    for path in data["files"]:
        if reader.footer(path).num_row_groups:
            table = next(iter(reader.tables([(path, 0)], recipe.columns)))
            return table.select(recipe.columns).slice(0, _ROWS)
    raise JobError("The data has no rows.", "Check the query.")


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
