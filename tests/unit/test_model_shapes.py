"""Every canonical model is built by what a recipe decides, answers in the shape of its task, and learns from one batch."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from jupyter_mlp import models
from jupyter_mlp.core.errors import InvalidInputError

COLUMNS = {"positions": {"a": [0], "b": [1, 2], "c": [3]}, "cardinalities": {"a": 5, "c": 7}, "width": 4}
DECIDED: dict[str, dict[str, Any]] = {
    "linear": COLUMNS,
    "tabular": COLUMNS,
    "transformer": COLUMNS,
    "two_tower": {**COLUMNS, "user": ["a", "b"]},
    "cnn": {"width": 64},
    "sequence": {"width": 64, "cardinalities": {}, "channels": 8},
}


def _made(name: str, **more: Any) -> Any:
    path, _, kind = models.source_of(name).rpartition(":")
    module = importlib.import_module(f"jupyter_mlp.models.{path.rpartition('/')[2].removesuffix('.py')}")
    return getattr(module, kind)(**{**DECIDED["linear" if name == "logistic" else name], **more})


def _features(name: str) -> torch.Tensor:
    x = torch.randn(6, 64 if name in ("cnn", "sequence") else 4)
    if x.shape[1] == 4:
        x[:, 0], x[:, 3] = torch.arange(6) % 5, torch.arange(6) % 7
    return x


@pytest.mark.parametrize(("task", "outputs"), [("regression", 1), ("binary", 1), ("multiclass", 3)])
@pytest.mark.parametrize("name", models.names())
def test_a_model_answers_in_the_shape_of_its_task(name: str, task: str, outputs: int) -> None:
    torch.manual_seed(1)
    if name == "two_tower" and task == "multiclass":
        with pytest.raises(InvalidInputError, match="answers with one number"):
            _made(name, task=task, outputs=outputs)
        return
    model = _made(name, task=task, outputs=outputs, target_mean=100.0, target_std=10.0)
    x, y = _features(name), torch.arange(6) % 2
    answers = model.eval()(x)
    assert answers.shape == ((6, 3) if task == "multiclass" else (6,))
    assert abs(float(answers.mean().detach()) - (100.0 if task == "regression" else 0.0)) < 60
    loss = model.loss(model.train()(x), y if task == "multiclass" else y.float())
    loss.backward()
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in model.parameters() if one.requires_grad), name


def test_what_a_model_cannot_be_made_of_is_said() -> None:
    with pytest.raises(InvalidInputError, match="65 features are no picture"):
        importlib.import_module("jupyter_mlp.models.cnn").CNN(width=65, outputs=1)
    with pytest.raises(InvalidInputError) as error:
        _made("two_tower", task="binary", outputs=1, user=["z"])
    assert "a, b, c" in error.value.hint
