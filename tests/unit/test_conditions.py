"""Conditions on runs: parsed and compared, never evaluated; and runs beside each other."""

from __future__ import annotations

from typing import Any

import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core import conditions
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store.workspace import Workspace

ROW = {"val_mae": 11.5, "model": "Net", "state": "finished", "data": "trips@1f3c", "gpus": 2}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("val_mae < 12", True),
        ("val_mae<12 AND model = Net", True),
        ("val_mae >= 11.5 and state != failed", True),
        ("model == Nut", False),
        ("data = trips", True),
        ("data = 'trips@1f3c'", True),
        ("lr < 1", False),
        ("model < 12", False),
        ("gpus = 2 and val_mae > 12", False),
    ],
)
def test_a_row_fulfils_conditions(text: str, holds: bool) -> None:
    assert all(one.holds(ROW) for one in conditions.parse(text)) is holds


@pytest.mark.parametrize("text", ["", "val_mae", "val_mae < ", "val_mae < 12 or x = 1", "a = 1; b = 2"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no condition"):
        conditions.parse(text)


def _train(workspace: Workspace, model: str, metrics: dict[str, float], **parameters: Any) -> None:
    with workspace.activities.recording("train", name=model, parameters={"data": "dataset:trips@1f3c", "gpus": 1, **parameters}) as draft:
        draft.facts["metrics"] = metrics


def test_runs_are_filtered_and_the_best_comes_first(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing was trained here yet." in repr(mlp.runs())
    _train(workspace, "Net", {"val_mae": 12.5, "val_accuracy": 0.7}, settings={"hidden": 16})
    _train(workspace, "Net", {"val_mae": 11.5, "val_accuracy": 0.8}, settings={"hidden": 96})
    _train(workspace, "Deep", {"val_mae": 11.0, "val_accuracy": 0.9}, settings={"lr": 0.1})
    found = mlp.runs(sort="val_accuracy")
    assert [row["val_accuracy"] for row in found.rows] == [0.9, 0.8, 0.7]
    assert [row["val_mae"] for row in mlp.runs("model = Net", sort="val_mae").rows] == [11.5, 12.5]
    assert "hidden" in repr(found) and "the same in all  gpus=1" in repr(found)
    assert "No run fulfils this." in repr(mlp.runs("val_mae < 1"))
    with pytest.raises(NotFoundError) as error:
        mlp.runs("val_mea < 1")
    assert "Did you mean val_mae?" in error.value.hint
    assert cli.main(["runs", "--where", "hidden = 96", "--json"]) == 0
    assert '"val_mae": 11.5' in capsys.readouterr().out
