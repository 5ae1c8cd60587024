"""Accuracy against cost: real models served in every way, measured over HTTP; what is chosen serves, what cannot be is refused."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import Notebook
from models import ODD, make_model, publish, register_module, rows_of

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.references import Ref
from jupyter_mlp.deployment import deploy, endpoint
from jupyter_mlp.frontends import cli
from jupyter_mlp.model_registry import find_models
from jupyter_mlp.serving import costs, places
from jupyter_mlp.store import registry
from jupyter_mlp.store.workspace import Workspace

WIDE = 3000


@pytest.fixture
def serving(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(costs, "SECONDS", 0.1)
    yield workspace
    places.stop_all(workspace)


def wide(recipe: Recipe) -> Any:
    """Layers whose weights are read from memory for each answer: as int8 they are a quarter as many bytes."""
    torch.manual_seed(7)
    return torch.nn.Sequential(
        torch.nn.Linear(recipe.width, WIDE), torch.nn.Tanh(), torch.nn.Linear(WIDE, WIDE), torch.nn.Tanh(), torch.nn.Linear(WIDE, WIDE),
        torch.nn.Tanh(), torch.nn.Linear(WIDE, 1), torch.nn.Flatten(0),
    )  # fmt: skip


def registered(workspace: Workspace) -> tuple[str, str]:
    """A wide model and the dataset that its card names."""
    table = rows_of(3000)
    data = publish(workspace, "rows", table)
    return register_module(workspace, table, wide, data=data), data


def test_the_fastest_way_within_the_limits_serves_with_its_proof(serving: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.4)  # as users have it: in a tenth of a second what else runs here decides
    model, data = registered(serving)
    at = deploy(model, to="lines", max_p99="2s", max_loss="2%")
    assert at.proof is not None
    points = {point["name"]: point for point in at.proof["points"]}
    chosen = points[at.proof["chosen"]]
    assert (at.proof["of"], at.proof["data"], at.proof["metric"]) == (f"model:{model}", data, "mae")
    assert 250 < at.proof["rows"] < 350, "a tenth of the rows: those that training holds out"
    assert {point["runtime"]["precision"] for point in points.values()} == {"float32", "int8"} and len(points) >= 5
    assert next(iter(points.values()))["loss"] == 0 and all(0 < p["p50_ms"] <= p["p99_ms"] and p["rate"] > 0 for p in points.values())
    assert points["int8, 1 thread"]["loss"] != 0, "rounded weights answer otherwise"
    assert chosen["runtime"]["precision"] == "int8", "the weights are a quarter as large, and reading them is most of the work"
    assert chosen["loss_high"] <= 0.02 and chosen["p99_ms"] <= min(p["p99_ms"] for p in points.values()) * 1.1

    served = registry.load(serving, f"model:{at.variants[0].model}")
    assert served.uuid != model and served.card_data["derived_from"] == f"model:{model}" and served.card_data["proof"] == at.proof
    made = serving.activities.maker(Ref("model", served.uuid))
    assert made is not None and made.kind == "deploy" and {Ref("model", model), Ref.parse(data)} <= set(made.used)
    assert {entry.model.uuid for entry in find_models().entries} == {model, served.uuid}
    assert (served.folder / "model.onnx").stat().st_size < (serving.models / model / "model.onnx").stat().st_size / 3
    row = {"dep_delay": 4.0, "carrier": "UA"}
    assert at.predict([row]) == endpoint("lines").predict([row]) and endpoint("lines").proof == at.proof
    assert "loss, at most" in repr(at) and "int8" in json.dumps(at.to_dict())
    assert not [p for p in psutil.Process().children(recursive=True) if "trial" in " ".join(p.cmdline())], "what measured has ended"


def test_what_cannot_be_kept_to_is_refused_with_the_nearest(serving: Workspace) -> None:
    table = rows_of(2000)
    data = publish(serving, "rows", table)
    model = make_model(serving)
    with pytest.raises(InvalidInputError, match=r"No way to serve Delay has a p99 of at most 0.001 ms and a loss of at most 0 %") as caught:
        deploy(model, to="lines", max_p99="0.001ms", max_loss="0%", data=data)
    assert re.search(r"The nearest of \d+: float32, .*, p99 [\d.]+ ms, loss of mae at most 0 %", caught.value.message)
    words = re.search(r"--max-p99 ([\d.]+ms) --max-loss 0%", caught.value.hint)
    assert words
    with pytest.raises(NotFoundError):
        endpoint("lines")
    refused = serving.activities.recent(["deploy"])[0]
    assert refused.state == "failed" and len(refused.facts["proof"]["points"]) >= 5, "what was measured stays"
    page = Path(caught.value.hint.split("All that was measured: ")[1]).read_text()
    assert all(point["name"] in page for point in refused.facts["proof"]["points"]) and "frontier" in page and "data:image/png" in page
    assert "chosen: " not in page and str(refused.facts["report"]) in caught.value.hint
    at = deploy(model, to="lines", max_p99=f"{10 * float(words[1][:-2])}ms", data=data)
    assert at.proof is not None and at.proof["rows"] == 2000
    assert at.proof["points"][0]["name"] == at.proof["chosen"] or at.variants[0].model != model


def test_a_model_from_source_has_one_way(serving: Workspace) -> None:
    data = publish(serving, "rows", rows_of(500))
    at = deploy(make_model(serving, code=ODD), to="odd", max_p99="20s", data=data)
    assert at.proof is not None and [point["name"] for point in at.proof["points"]] == ["float32, 1 thread"]


def test_no_room_for_the_ways_is_said(serving: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = publish(serving, "rows", rows_of(500))
    model = make_model(serving)
    monkeypatch.setattr(tempfile, "tempdir", "/proc")  # where nobody can write
    with pytest.raises(StorageError, match="writing the ways to serve the model at /proc"):
        deploy(model, to="lines", max_p99="2s", data=data)
    with pytest.raises(NotFoundError):
        endpoint("lines")


def test_limits_are_typed(serving: Workspace, notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    data = publish(serving, "rows", rows_of(1000))
    model = make_model(serving)
    at = notebook.cell(f"%mlp_deploy model:{model} --to lines --max-p99 2s --max-loss 50% --data {data}")
    assert at.proof["limits"] == {"p99_ms": 2000.0, "loss": 0.5}
    assert cli.main(["deploy", f"model:{model}", "--to", "lines", "--max-p99", "0.001ms", "--data", "rows"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-2].startswith("No way to serve Delay") and said[-1].startswith("Write --max-p99 ")
    for words, told in (
        ("--max-p99 fast", "max_p99 is 'fast', which is no time"),
        ("--max-loss 200%", "max_loss is '200%', which is no part of a metric"),
        ("--max-p99 5ms --serve-from store --data rows --key id", "Predictions by key take no time"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            notebook.cell(f"%mlp_deploy model:{model} --to lines {words}")
