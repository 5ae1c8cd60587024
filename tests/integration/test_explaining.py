"""Explanations: sentences about real models, and the model's word for each of their numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from conftest import Notebook
from models import ODD, make_model, publish, rows_of

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError, NotFoundError
from jupyter_mlp.core.explaining import Answer, Usual, explained
from jupyter_mlp.store.workspace import Workspace


def test_the_right_column_is_named_and_what_is_said_holds(workspace: Workspace) -> None:
    """The short form of `make proof ARGS=explanations`: one additive model and one that multiplies columns."""
    import proof_explanations

    assert proof_explanations.say(proof_explanations.prove([0, 3], 30, 7)) == 0


def test_one_row_is_explained_in_a_notebook_and_on_the_command_line(notebook: Notebook, workspace: Workspace) -> None:
    make_model(workspace)
    table = rows_of(500, seed=3)
    publish(workspace, "trips", table)
    row = table["dep_delay"].to_pandas().idxmax()
    found = notebook.cell(f"%mlp_explain Delay --data trips --row {row} --unit min")
    (sentence,) = found.sentences
    delay, usual = table["dep_delay"][row].as_py(), found.usual["dep_delay"].value
    assert sentence.startswith("predicted ") and f"because dep_delay = {delay:,.4g} (" in sentence
    assert f"at its median ({usual:,.4g}) it would be" in sentence
    assert usual in table["dep_delay"].to_pylist(), "the median is a value that occurs"
    instead = mlp.predict("Delay", data=[{"dep_delay": usual, "carrier": table["carrier"][row].as_py()}])[0]
    assert sentence.endswith(f" {instead:+.{len(sentence.split('.')[-1].split()[0])}f} min"), "the model's own answer"
    assert sentence in repr(found) and found.rows[0].effects["dep_delay"] != 0
    bundle = notebook.shell.display_formatter.format(found)[0]
    assert "image/png" in str(bundle) and "because dep_delay" in bundle["text/html"]
    command = [
        sys.executable,
        "-m",
        "jupyter_mlp.frontends.cli",
        "--json",
        "explain",
        "Delay",
        "--data",
        "trips",
        "--row",
        str(row),
        "--unit",
        "min",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told = json.loads(said)
    assert told["rows"][0]["sentence"] == sentence, "asked again, the same is said"


def test_the_whole_picture_orders_the_columns(workspace: Workspace) -> None:
    model = make_model(workspace, columns=("again",))
    data = publish(workspace, "trips", rows_of(3000).append_column("again", pa.array([float(i % 7) for i in range(3000)])))
    found = mlp.explain(model, data=data)
    assert found.sampled == 200 and found.rows == ()
    assert set(found.effects) == {"dep_delay", "carrier", "again"}
    assert all(low <= found.effects[name] <= high for name, (low, high) in found.intervals.items())
    assert found.usual["carrier"] == Usual(rows_of(3000).to_pandas()["carrier"].mode()[0], "at its most frequent value")
    assert found.report is not None and "data:image/png" in found.report.read_text()
    maker = workspace.activities.maker(found.reference)
    assert maker is not None and {str(ref) for ref in maker.used} == {f"model:{model}", data}
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_chances_are_explained_in_points(workspace: Workspace, task: str) -> None:
    model = make_model(workspace, task=task)
    found = mlp.explain(model, data=publish(workspace, "trips", rows_of(300, task=task)), rows="0:40")
    assert any(" % for target = " in one and " points); at its median" in one for one in found.sentences)
    for row in found.rows:
        assert sum(row.effects.values()) == pytest.approx(row.prediction - row.usual, abs=1e-6)
        assert 0 <= row.prediction <= 1


def test_a_model_that_runs_from_its_source_is_explained_too(workspace: Workspace) -> None:
    data = publish(workspace, "trips", rows_of(100))
    source, exported = (mlp.explain(make_model(workspace, code=code), data=data, row=1) for code in (ODD, None))
    assert source.rows[0].effects == pytest.approx(exported.rows[0].effects, abs=1e-3)


def test_what_cannot_be_explained_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(workspace)
    publish(workspace, "trips", rows_of(30))
    publish(workspace, "other", pa.table({"dep_delay": [1.0]}))
    with pytest.raises(NotFoundError, match="no row 30") as refused:
        mlp.explain(model, data="trips", row=30)
    assert "0 to 29" in refused.value.hint
    with pytest.raises(NotFoundError, match="no column carrier"):
        mlp.explain(model, data="other")
    with pytest.raises(InvalidInputError, match="names no rows") as refused_too:
        mlp.explain(model, data="trips", rows="3,x")
    assert "--rows 3,7,100:120" in refused_too.value.hint
    with pytest.raises(InvalidInputError, match="more than 100"):
        mlp.explain(model, data="trips", rows="0:999999999")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingPackageError, match="captum") as missing:
        mlp.explain(model, data="trips", row=0)
    assert "jupyter_mlp[explain]" in missing.value.hint


def test_no_reason_is_given_that_the_model_does_not_bear_out() -> None:
    """Two columns that only act together: taking away the second alone undoes less than the first does."""
    usuals = {"a": Usual(0, "at its median"), "b": Usual(0, "at its median")}

    def told(effects: dict[str, float], changed: dict[str, float], prediction: float = 20.0) -> Any:
        return explained(0, {"a": 3, "b": 4}, prediction, 10.0, None, effects, changed, usuals, Answer("delay", "min"))

    assert told({"a": 9.0, "b": 1.0}, {"a": 11.0, "b": 19.0}).column == "a"
    assert told({"a": 9.0, "b": 1.0}, {"a": 19.0, "b": 19.5}).column is None, "the change does not show"
    assert told({"a": 6.0, "b": 4.0}, {"a": 15.0, "b": 12.0}).column is None, "another column undoes more"
    assert told({"a": 50.0, "b": -50.0}, {"a": -30.0, "b": 70.0}, 10.1).column is None, "the effects cancel"
    assert "no single column" in told({"a": 9.0, "b": 1.0}, {"a": 19.0, "b": 19.5}).sentence
    assert (
        " mostly because a = 3 (+9.0); at its median (0) it would be 11.0 min"
        in told({"a": 9.0, "b": 1.0}, {"a": 11.0, "b": 19.0}).sentence
    )
