"""Models judged on real rows: alone, and two on the same ones."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from models import make_model, publish, register_module, rows_of

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends import cli, listings
from jupyter_mlp.paired_evaluation import PairedEvaluation
from jupyter_mlp.store.workspace import Workspace


@pytest.mark.parametrize(("task", "metric", "test"), [
    ("regression", "mean absolute error", "paired t-test"), ("binary", "accuracy", "McNemar"), ("multiclass", "accuracy", "McNemar"),
])  # fmt: skip
def test_the_better_of_two_models_is_named_with_how_sure_that_is(workspace: Workspace, task: str, metric: str, test: str) -> None:
    good, bad = make_model(workspace, task=task, name="Good"), make_model(workspace, task=task, name="Bad", constant=5.0)
    data = publish(workspace, "held_out", rows_of(3000, seed=8, task=task))
    found = mlp.evaluate(bad, data="held_out", against=good, by="carrier")
    assert isinstance(found, PairedEvaluation) and found.better == Ref("model", good)
    assert f"Good (model:{good[:8]}) is better than Bad (model:{bad[:8]}) by" in found.sentence
    assert f"in {metric} on 3,000 rows, p < 0.001" in found.sentence and test in found.sentence
    alone = [mlp.evaluate(one, data="held_out") for one in (bad, good)]
    for name, one in found.differences.items():
        assert (one.first, one.second) == pytest.approx((alone[0].metrics[name], alone[1].metrics[name]))
        assert one.low <= one.value <= one.high
    assert {part["value"] for part in found.slices} == {"UA", "AA", "DL"}
    assert found.report is not None and "is better than" in found.report.read_text() and "data:image/png" in found.report.read_text()
    activity = workspace.activities.maker(found.reference)
    assert activity is not None and {str(ref) for ref in activity.used} == {f"model:{good}", f"model:{bad}", data}
    json.dumps(found.to_dict(), allow_nan=False)
    turned = mlp.evaluate(good, data="held_out", against=bad)
    assert turned.better == Ref("model", good) and f"Bad (model:{bad[:8]}) is worse than Good" in turned.sentence


@pytest.mark.parametrize(("task", "titles"), [
    ("regression", ["Residuals", "Predicted vs observed"]), ("binary", ["ROC", "Calibration", "Confusion"]), ("multiclass", ["Confusion"]),
])  # fmt: skip
def test_every_task_has_its_pictures(workspace: Workspace, task: str, titles: list[str]) -> None:
    publish(workspace, "held_out", rows_of(500, seed=8, task=task))
    found = mlp.evaluate(make_model(workspace, task=task), data="held_out")
    assert [figure.title for figure in found.figures] == titles
    assert all(figure.png and figure.png.startswith(b"\x89PNG") and figure.vega_lite and figure.alt for figure in found.figures)
    if task != "regression":
        drawn = found.figures[-1].vega_lite
        assert drawn is not None and sum(one["rows"] for one in drawn["data"]["values"]) == 500
    assert found.report is not None and found.report.read_text().count("data:image/png") == len(titles)


@pytest.mark.parametrize(("task", "classes"), [("binary", {"true", "false"}), ("multiclass", {"early", "ok", "late"})])
def test_classifiers_are_told_class_by_class(workspace: Workspace, task: str, classes: set[str]) -> None:
    rows = rows_of(1000, seed=8, task=task)
    publish(workspace, "held_out", rows)
    found = mlp.evaluate(make_model(workspace, task=task), data="held_out")
    assert {one["value"] for one in found.per_class} == classes and sum(one["rows"] for one in found.per_class) == 1000
    for one in found.per_class:
        assert set(one["metrics"]) == {"precision", "recall", "f1"}
        assert all(low <= one["metrics"][name] <= high for name, (low, high) in one["intervals"].items())
    assert all(f"{name}" in repr(found) for name in ("by class", "precision", "recall"))
    json.dumps(found.to_dict(), allow_nan=False)


def _users(rows: pa.Table, each: int = 10) -> pa.Table:
    return rows.append_column("user", pa.array([f"user {at // each}" for at in range(len(rows))]))


@pytest.mark.parametrize(("task", "metrics"), [("binary", {"ndcg@5", "map", "mrr"}), ("regression", {"ndcg@5"})])
def test_a_ranking_is_judged_group_by_group_against_a_random_order(workspace: Workspace, task: str, metrics: set[str]) -> None:
    rows = rows_of(3000, seed=8, task=task)
    if task == "regression":
        rows = rows.set_column(2, "target", pc.max_element_wise(pc.round(pc.divide(rows["target"], 10)), pa.scalar(0.0)))
    publish(workspace, "clicks", _users(rows))
    good, bad = make_model(workspace, task=task, name="Good"), make_model(workspace, task=task, name="Bad", constant=0.5)
    found = mlp.evaluate(good, data="clicks", task="ranking", group="user", k=5)
    assert set(found.metrics) == metrics and found.task == "ranking" and found.beats_baseline and found.metrics["ndcg@5"] > 0.9
    assert "groups of user" in found.notes[0] and found.baseline_is == "rows in random order"
    assert [figure.title for figure in found.figures] == ["NDCG@5 by group"] and "NDCG@5" in repr(found)
    same = mlp.evaluate(bad, data="clicks", task="ranking", group="user", k=5)
    assert not same.beats_baseline and same.metrics["ndcg@5"] == pytest.approx(same.baseline["ndcg@5"], abs=0.05)
    paired = mlp.evaluate(bad, data="clicks", task="ranking", group="user", k=5, against=good)
    assert paired.better == Ref("model", good)
    groups = found.notes[0].removeprefix("Means over ").partition(" ")[0]
    assert f"in NDCG@5 on {groups} groups of user, p < 0.001 (paired t-test over the groups)" in paired.sentence
    json.dumps([found.to_dict(), paired.to_dict()], allow_nan=False)


def test_a_ranking_that_cannot_be_is_refused(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(workspace, task="binary")
    make_model(workspace, task="multiclass", name="Many")
    publish(workspace, "clicks", _users(rows_of(100, task="binary")))
    publish(workspace, "many", _users(rows_of(100, task="multiclass")))
    capsys.readouterr()
    for words, said in (
        (["Delay", "--data", "clicks", "--task", "ranking"], "A ranking needs the column"),
        (["Delay", "--data", "clicks", "--group", "user"], "--group says nothing of binary"),
        (["Delay", "--data", "clicks", "--task", "forecast", "--time", "user"], "A forecast is of a number"),
        (["Delay", "--data", "clicks", "--task", "ranking", "--group", "usr"], "has no column usr"),
        (["Delay", "--data", "clicks", "--task", "regression"], "Delay answers binary, not regression"),
        (["Delay", "--data", "clicks", "--task", "ranking", "--group", "user", "--by", "carrier"], "a ranking has no slices"),
        (["Many", "--data", "many", "--task", "ranking", "--group", "user"], "one of many classes"),
    ):
        assert cli.main(["evaluate", *words]) == 1
        assert said in capsys.readouterr().err


def test_a_forecast_is_judged_beside_the_naive_one_for_each_series_and_horizon(workspace: Workspace) -> None:
    import torch

    random = np.random.default_rng(2)
    days, season = 140, 7 * np.sin(np.arange(140) * 2 * np.pi / 7)
    values = {shop: 50 + season + random.normal(0, 1, days) for shop in ("north", "south")}
    rows = pa.table(
        {
            "last_week": pa.array([v for one in values.values() for v in [None] * 7 + one[:-7].tolist()], pa.float64()),
            "day": [*range(days)] * 2,
            "shop": [shop for shop in values for _ in range(days)],
            "horizon": [1 + at % 2 for at in range(2 * days)],
            "target": [v for one in values.values() for v in one.tolist()],
        }
    )
    split = pc.less(rows["day"], 100)
    train, test = rows.filter(split), rows.filter(pc.invert(split))
    data, _ = publish(workspace, "sales", train), publish(workspace, "sales_test", test)

    def module(recipe: Recipe) -> torch.nn.Module:
        layer = torch.nn.Linear(recipe.width, 1)
        x = recipe.features({"last_week": train["last_week"]})
        found = np.linalg.lstsq(np.c_[x, np.ones(len(x))], recipe.labels(train["target"]), rcond=None)[0]
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(found[:-1][None]))
            layer.bias.copy_(torch.from_numpy(found[-1:]))
        return torch.nn.Sequential(layer, torch.nn.Flatten(0))

    model = register_module(workspace, train.select(["last_week", "target"]), module, name="Sales", data=data)
    asked = {"data": "sales_test", "task": "forecast", "time": "day", "group": "shop"}
    found = mlp.evaluate(model, **asked, by="horizon")
    assert found.task == "forecast" and found.rows == 80 and found.beats_baseline and found.baseline_is == "the value 1 step before"
    yesterday = np.concatenate([np.abs(np.diff(one[99:])) for one in values.values()])
    assert found.baseline["mae"] == pytest.approx(yesterday.mean(), rel=1e-5)
    learned = {shop: np.abs(np.diff(one[:100])).mean() for shop, one in values.items()}
    assert found.metrics["mase"] == pytest.approx(found.metrics["mae"] / np.mean(list(learned.values())), rel=0.05)
    assert {part["value"] for part in found.slices} == {"1", "2"} and all("mase" in part["metrics"] for part in found.slices)
    weekly = mlp.evaluate(model, **asked, season=7)
    assert weekly.baseline["mae"] < found.baseline["mae"] / 2 and "sMAPE" in repr(weekly)
    with pytest.raises(NotFoundError, match="has no column weekday"):
        mlp.evaluate(model, **{**asked, "time": "weekday"})
    other = register_module(workspace, train.select(["last_week", "target"]), module, name="Blind", data=publish(
        workspace, "few", train.select(["last_week", "target"])))  # fmt: skip
    with pytest.raises(NotFoundError, match="which Blind learned from, has no column shop") as refused:
        mlp.evaluate(other, **asked)
    assert "training data" in refused.value.hint
    with pytest.raises(InvalidInputError, match="rows of a series are not independent"):
        mlp.evaluate(model, **asked, against=other)


def test_where_chance_explains_a_difference_none_is_claimed(workspace: Workspace) -> None:
    one = make_model(workspace, name="One")
    two = _nudged(workspace)
    publish(workspace, "few", rows_of(40, seed=9))
    found = mlp.evaluate(one, data="few", against=two)
    assert found.better is None and found.test.p > 0.05
    assert (
        found.sentence.startswith("No difference between Two (model:")
        and "can be shown in mean absolute error on 40 rows" in found.sentence
    )


def test_a_comparison_stands_on_both_models_cards_and_is_no_metric_of_either(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = make_model(workspace, name="Good"), make_model(workspace, name="Bad", constant=5.0)
    publish(workspace, "held_out", rows_of(500, seed=8))
    alone = mlp.evaluate(bad, data="held_out")
    capsys.readouterr()  # torch's exporter prints
    assert cli.main(["evaluate", "Bad", "--data", "held_out", "--against", "Good", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["better"] == f"model:{good}" and "is better than" in told["sentence"]
    for model in (good, bad):
        entry = mlp.find_models(f"model:{model}").entries[0]
        assert [one.facts["sentence"] for one in entry.comparisons] == [told["sentence"]]
        assert told["sentence"] in repr(mlp.find_models(f"model:{model}"))
    rows = {row["ref"]: row["detail"] for row in listings.page(workspace, "evaluation")["rows"]}
    assert rows[told["ref"]] == told["sentence"] and rows[alone.ref].startswith("mae ")
    assert told["sentence"].split(" (95 %")[0] in listings.report_of(workspace, Ref.parse(told["ref"])).decode()
    assert mlp.find_models(f"model:{bad}").entries[0].metrics["mae"] == alone.metrics["mae"]
    assert mlp.find_models(f"model:{good}").entries[0].metrics == {}


def test_models_that_learned_other_classes_are_compared_on_those_that_both_know(workspace: Workspace) -> None:
    import torch

    rows = rows_of(2000, task="multiclass")
    two_classes = rows.filter(pc.field("target") != "ok")
    wide = make_model(workspace, task="multiclass", name="Wide")
    narrow = register_module(workspace, two_classes, lambda recipe: torch.nn.Linear(recipe.width, 2), "multiclass", "Narrow")
    publish(workspace, "held_out", rows_of(1000, seed=8, task="multiclass"))
    found = mlp.evaluate(narrow, data="held_out", against=wide)
    both = int(pc.sum(pc.not_equal(rows_of(1000, seed=8, task="multiclass")["target"], "ok")).as_py())
    assert found.rows == both and f"{1000 - both:,} rows without a target that the model knows were left out." in found.notes
    seen = rows_of(1000, seed=8, task="multiclass").filter(pc.field("target") != "ok")
    publish(workspace, "seen", seen)
    assert found.differences["accuracy"].second == pytest.approx(mlp.evaluate(wide, data="seen").metrics["accuracy"])


def test_models_that_answer_different_questions_are_refused(workspace: Workspace) -> None:
    number, label = make_model(workspace, name="Number"), make_model(workspace, name="Label", task="binary")
    publish(workspace, "held_out", rows_of(100, seed=8))
    with pytest.raises(InvalidInputError, match=r"Number predicts target \(regression\), Label predicts target \(binary\)") as refused:
        mlp.evaluate(number, data="held_out", against=label)
    assert "same target and task" in refused.value.hint
    with pytest.raises(InvalidInputError, match="Both models are") as refused:
        mlp.evaluate(number, data="held_out", against="Number")
    assert "--against" in refused.value.hint


def _nudged(workspace: Workspace) -> str:
    """A model whose answers differ from those of `make_model` by next to nothing, in both directions."""
    import torch

    class Near(torch.nn.Module):
        def __init__(self, recipe: Recipe) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(recipe.width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)[:, 0]

    def made(recipe: Recipe) -> torch.nn.Module:
        table = rows_of(2000)
        features = recipe.features({name: table.column(name) for name in recipe.columns})
        found = np.linalg.lstsq(np.c_[features, np.ones(len(features))], recipe.labels(table.column("target")), rcond=None)[0]
        near = Near(recipe)
        with torch.no_grad():
            near.layer.weight.copy_(torch.from_numpy(found[:-1][None] * 1.001))
            near.layer.bias.copy_(torch.from_numpy(found[-1:]))
        return near

    return register_module(workspace, rows_of(2000), made, name="Two")
