"""Licenses of models: said after training, shown and found, while the model's files stay as they are."""

from __future__ import annotations

import pytest
from models import make_model

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store import registry
from jupyter_mlp.store.workspace import Workspace


def test_a_license_is_said_of_a_model_shown_and_found(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    model, other = make_model(workspace), make_model(workspace, name="Other")
    card = registry.load(workspace, model).folder / "model.json"
    before = card.read_bytes()
    assert "not given: %mlp_models model:" in repr(mlp.find_models(f"model:{model}"))
    assert cli.main(["models", "Delay", "--license", "MIT"]) == 0
    assert "MIT" in capsys.readouterr().out
    assert mlp.set_license(f"model:{model}", "Apache-2.0 WITH LLVM-exception").entries[0].license == "Apache-2.0 WITH LLVM-exception"
    assert "Apache-2.0 WITH LLVM-exception" in repr(mlp.find_models(f"model:{model}"))
    assert [one.model.uuid for one in mlp.find_models("apache-2.0").entries] == [model] and len(mlp.find_models("MIT")) == 0
    assert mlp.find_models(f"model:{other}").to_dict()["models"][0]["license"] is None
    assert card.read_bytes() == before


def test_a_model_made_of_another_has_its_license(workspace: Workspace) -> None:
    model = make_model(workspace)
    derived = make_model(workspace, name="Faster", more={"derived_from": f"model:{model}"})
    mlp.set_license(f"model:{model}", "MIT")
    assert mlp.find_models(f"model:{derived}").entries[0].license == "MIT"


def test_what_is_no_license_is_refused(workspace: Workspace) -> None:
    make_model(workspace)
    with pytest.raises(InvalidInputError, match="names no license") as refused:
        mlp.set_license("Delay", "<b>")
    assert "Apache-2.0" in refused.value.hint
    with pytest.raises(NotFoundError, match="no model Dely"):
        mlp.set_license("Dely", "MIT")


def test_a_license_is_said_of_one_model(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--license", "MIT"]) == 1
    assert "not of 0" in capsys.readouterr().err
