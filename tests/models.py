"""Small real models for tests: a torch module exported to ONNX, registered as training does it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.store import datasets, registry
from jupyter_mlp.store.workspace import Workspace


def rows_of(count: int, seed: int = 1, task: str = "regression") -> pa.Table:
    """Rows whose target depends on both inputs, with some noise and some missing values."""
    random = np.random.default_rng(seed)
    delay = random.normal(10, 20, count)
    carrier = random.choice(["UA", "AA", "DL"], count)
    late = delay + 5 * (carrier == "UA") + random.normal(0, 3, count)
    target = {"regression": late, "binary": late > 10, "multiclass": np.where(late < 0, "early", np.where(late < 20, "ok", "late"))}[task]
    values = [None if i % 50 == 0 else float(x) for i, x in enumerate(delay)]
    return pa.table({"dep_delay": pa.array(values, pa.float64()), "carrier": pa.array(carrier), "target": pa.array(target)})


def make_model(
    workspace: Workspace,
    *,
    constant: float | None = None,
    task: str = "regression",
    columns: tuple[str, ...] = (),
    name: str = "Delay",
    code: str | None = None,
    modules: Mapping[str, str] = MappingProxyType({}),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Register a linear model and return its UUID; `constant` makes it always answer that number.

    Args:
        modules: files beside its `code`. `more`: what its card says as well.
    """
    table = rows_of(2000, task=task)
    for column in columns:
        table = table.append_column(column, table.column("dep_delay"))
    recipe = Recipe.infer(table.schema, "target", task).fit(table.to_batches())
    outputs = len(recipe.classes or ()) if task == "multiclass" else 1
    weights, bias = (
        _fitted(recipe, table, outputs)
        if constant is None
        else (np.zeros((outputs, recipe.width), np.float32), np.full(outputs, constant, np.float32))
    )
    example = {key: value for key, value in table.slice(1, 1).to_pylist()[0].items() if key != "target"}
    card = {
        "name": name,
        "run": "run:test",
        "task": task,
        "target": "target",
        "classes": list(recipe.classes) if recipe.classes else None,
        "recipe": json.loads(json.dumps(recipe.to_dict())),
        "signature": {"inputs": [{"name": f.name, "type": str(f.type), "nullable": True} for f in table.schema if f.name != "target"]},
        "metrics": {},
        "data": "dataset:rows@1",
        "export": {"kind": "onnx"},
        "example": example,
        **more,
    }
    if code is not None:
        card = {
            **card,
            "name": "Odd",
            "export": {"kind": "source", "why": "it branches on its input"},
            "arguments": {"width": recipe.width},
        }
    with tempfile.TemporaryDirectory() as folder:
        if code is not None:
            _source(Path(folder), {"captured.py": code, **modules}, weights, bias)
        else:
            (Path(folder) / "model.onnx").write_bytes(_graph(weights.tobytes(), bias.tobytes(), recipe.width, outputs))
        uuid = registry.register(workspace, Path(folder), card)
    with workspace.activities.recording("train", name=name) as draft:
        draft.made.append(Ref("model", uuid))
    return uuid


@contextmanager
def served(folder: Path) -> Iterator[Any]:
    """The endpoint `delays` of a workspace of its own, for the tests of a whole file."""
    from jupyter_mlp.deployment import deploy
    from jupyter_mlp.store.workspace import current

    before = os.environ.get("MLP_WORKSPACE")
    os.environ["MLP_WORKSPACE"] = str(folder)
    try:
        made = deploy(make_model(current()), to="delays")
        yield made
        made.stop()
    finally:
        os.environ.pop("MLP_WORKSPACE") if before is None else os.environ.update(MLP_WORKSPACE=before)


def register_module(
    workspace: Workspace,
    table: pa.Table,
    module_of: Callable[[Recipe], Any],
    task: str = "regression",
    name: str = "Net",
    data: str = "dataset:rows@1",
) -> str:
    """Register the torch module that `module_of` makes for the default recipe of a table with a column `target`; return its UUID."""
    import torch

    from jupyter_mlp.backends import onnx

    recipe = Recipe.infer(table.schema, "target", task).fit(table.to_batches())
    with tempfile.TemporaryDirectory() as folder:
        export = onnx.export(module_of(recipe).eval(), torch.zeros(4, recipe.width), Path(folder, "model.onnx"))
        assert export["kind"] == "onnx", export
        card = {
            "name": name, "run": "run:test", "task": task, "target": "target", "classes": list(recipe.classes) if recipe.classes else None,
            "recipe": json.loads(json.dumps(recipe.to_dict())), "metrics": {}, "data": data, "export": export,
            "signature": {"inputs": [{"name": f.name, "type": str(f.type), "nullable": True} for f in table.schema if f.name != "target"]},
            "example": {key: json_ready(value) for key, value in table.slice(1, 1).to_pylist()[0].items() if key != "target"},
        }  # fmt: skip
        uuid = registry.register(workspace, Path(folder), card)
    with workspace.activities.recording("train", name=name) as draft:
        draft.made.append(Ref("model", uuid))
    return uuid


def publish(workspace: Workspace, name: str, table: pa.Table) -> str:
    """Publish a table as a dataset version and return its reference."""
    with workspace.activities.recording("query", name=name) as draft:
        return str(datasets.publish_table(workspace, draft, name, table))


ODD = """
import torch

class Odd(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)

    def forward(self, x):
        print("printing must not hurt")
        found = self.layer(x)[:, 0]
        return -found if found.sum().item() < -1e6 else found  # a branch that no exporter follows
"""


def _source(folder: Path, files: Mapping[str, str], weights: np.ndarray, bias: np.ndarray) -> None:
    from safetensors.numpy import save_file

    for name, text in files.items():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_text(text)
    save_file({"layer.weight": weights, "layer.bias": bias}, folder / "weights.safetensors")


def _fitted(recipe: Recipe, table: pa.Table, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Least squares, one output per class: good enough to beat any baseline here."""
    features = recipe.features({n: table.column(n) for n in recipe.columns})
    labels = recipe.labels(table.column("target"))
    wanted = np.eye(outputs)[labels] * 4 - 2 if outputs > 1 else (labels[:, None] * 4 - 2 if recipe.task == "binary" else labels[:, None])
    found = np.linalg.lstsq(np.c_[features, np.ones(len(features))], wanted, rcond=None)[0]
    return found[:-1].T.astype(np.float32).copy(), found[-1].astype(np.float32).copy()


@cache
def _graph(weights: bytes, bias: bytes, width: int, outputs: int) -> bytes:
    import torch

    module = torch.nn.Linear(width, outputs)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.frombuffer(weights, np.float32).reshape(outputs, width).copy()))
        module.bias.copy_(torch.from_numpy(np.frombuffer(bias, np.float32).copy()))
    model = torch.nn.Sequential(module, torch.nn.Flatten(0)) if outputs == 1 else module
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        rows = {0: torch.export.Dim("rows")}
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, width),),
            path,
            input_names=["features"],
            output_names=["output"],
            dynamic_shapes=(rows,),
            dynamo=True,
            external_data=False,
        )
        return path.read_bytes()
