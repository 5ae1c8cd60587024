"""From what monitoring finds back to training: the same code on the newest data, beside the model it may replace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Notebook
from models import make_model
from test_training import NET, dataset, frame

import jupyter_mlp as mlp
from jupyter_mlp import deployment
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, StorageError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import places, requests_log
from jupyter_mlp.store import deployments, registry
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    yield workspace
    places.stop_all(workspace)


def test_one_line_trains_on_the_newest_data_and_puts_a_shadow_beside(notebook: Notebook, serving: Workspace) -> None:
    first = dataset(serving)
    notebook.cell(NET)
    notebook.cell("%%mlp_recipe plain\nx: impute median | scale\nletter: one-hot 2\ny: target")
    words = "--data rows --target y --recipe plain --max-epochs 2 --batch-size 64 --set hidden=8"
    run = notebook.cell(f"run = %mlp_train Net {words}\nrun")
    notebook.cell("%mlp_deploy run --to lines")
    with pytest.raises(ConflictError, match="there is no newer data"):
        notebook.cell("%mlp_retrain lines")
    assert mlp.monitor("lines").metrics["newer_data"] is None

    moved = frame()
    moved["x"] += 40.0
    second = dataset(serving, data=moved)
    mlp.predict("endpoint:lines", data=moved.drop(columns="y").head(300))
    report = notebook.cell("%mlp_monitor lines")
    assert report.metrics["newer_data"] == second and report.metrics["drifted"] == ["x"]
    assert report.metrics["output_drifted"], "beside its answers to rows that it did not learn from"
    assert "%mlp_retrain lines trains it again" in repr(report)

    captured = registry.load(serving, run.model).folder / "code" / "captured.py"
    written = captured.read_bytes()
    captured.write_bytes(written + b"# edited\n")
    with pytest.raises(StorageError, match=r"captured\.py was changed since"):
        notebook.cell("%mlp_retrain lines")
    captured.write_bytes(written)

    found = notebook.cell("%mlp_retrain lines")
    assert found.data == second != first and found.model != run.model
    assert found.was.data == found.now.data and 350 < found.now.rows < 450, (
        "both are judged on the rows that the new one did not learn from"
    )
    assert found.now.metrics["mae"] < found.was.metrics["mae"] / 2
    assert [(v.model, v.weight, v.shadow) for v in mlp.endpoint("lines").variants] == [
        (run.model.removeprefix("model:"), 100, False),
        (found.model.removeprefix("model:"), 0, True),
    ]
    made = serving.activities.maker(Ref.parse(found.ref))
    assert made is not None and made.kind == "retrain"
    assert {run.model, second, found.model, found.endpoint.ref, found.was.ref} <= {str(ref) for ref in made.used}
    new = serving.activities.get(mlp.run(found.run).id)
    assert new is not None and (new.parameters["settings"], new.parameters["max_epochs"], new.parameters["target"]) == (
        {"hidden": 8},
        2,
        "y",
    )
    assert "lake" not in new.parameters["recipe"] and new.parameters["recipe"].startswith("recipe:plain@")
    assert registry.load(serving, found.model).recipe.statistics["x"]["mean"] > 45, "the recipe is fitted on the new rows"

    mlp.predict("endpoint:lines", data=moved.drop(columns="y").head(5))
    mlp.monitor("lines")  # waits until what was answered is written
    logged = requests_log.entries(deployments.folder(serving, "lines").requests)
    assert [entry.shadow for entry in logged if f"model:{entry.model}" == found.model] == [True]
    assert "%mlp_deploy model:" in repr(found) and found.to_dict()["endpoint"]["name"] == "lines" and found.replaced == ()

    moved["x"] += 40.0
    dataset(serving, data=moved)
    again = notebook.cell("%mlp_retrain lines")
    assert [(f"model:{v.model}", v.shadow) for v in mlp.endpoint("lines").variants] == [(run.model, False), (again.model, True)]
    assert again.replaced == (found.model,) and f"took the place of {Ref.parse(found.model).short}" in repr(again)
    assert mlp.endpoint("lines").rollback().variants == found.endpoint.variants


def test_a_shadow_that_was_deployed_by_hand_stays(serving: Workspace) -> None:
    champion, theirs, first, promoted, newest = (f"model:{make_model(serving)}" for _ in range(5))
    mlp.deploy(champion, to="lines")
    mlp.deploy(theirs, to="lines", shadow=True)
    assert deployment.deploy_retrained(first, to="lines")[1] == ()
    assert deployment.deploy_retrained(first, to="lines")[1] == (), "the same model again takes nobody's place"
    assert deployment.deploy_retrained(promoted, to="lines")[1] == (first,)
    mlp.deploy(promoted, to="lines", shadow=True)
    last, gone = deployment.deploy_retrained(newest, to="lines")
    assert gone == () and [f"model:{v.model}" for v in last.variants] == [champion, theirs, promoted, newest]


def test_what_nobody_knows_how_to_train_is_refused(serving: Workspace) -> None:
    mlp.deploy(make_model(serving), to="lines")
    with pytest.raises(InvalidInputError, match="How Delay was trained is not known here"):
        mlp.retrain("lines")
