"""A report on an endpoint from its log alone: drift of what was asked and answered, alarms, history. Nothing is served here."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from models import make_model, publish, register_module, rows_of
from receivers import receiver

from jupyter_mlp.core.references import Ref
from jupyter_mlp.monitoring import Report, monitor
from jupyter_mlp.serving import segments
from jupyter_mlp.serving.requests_log import Entry, RequestLog
from jupyter_mlp.store import deployments
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

DAY = 86_400.0
NOW = 1_714_521_600.0


def deployed(workspace: Workspace, model: str) -> EndpointFolder:
    """The records of an endpoint whose processes ended."""
    folder = deployments.folder(workspace, "delays")
    with workspace.activities.recording("deploy", name="delays") as draft:
        draft.made.append(Ref("endpoint", "delays", draft.activity.id))
    folder.want({"workspace": str(workspace.root), "generation": 1, "variants": [{"model": model, "weight": 100, "shadow": False}]})
    return folder


def answer(folder: EndpointFolder, model: str, rows: list[dict[str, Any]], answers: list[float], at: float = NOW) -> None:
    log = RequestLog(folder.requests)
    for number in range(0, len(rows), 10):
        part = slice(number, number + 10)
        log.add(Entry(at + number, f"{at}-{number}", 200, 2.0, model, rows=10, instances=rows[part], predictions=answers[part]))
    log.flush()


def psi(report: Report) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in report.drift}


def test_answers_are_judged_beside_those_to_rows_that_were_held_out(workspace: Workspace) -> None:
    import torch

    table = rows_of(4000)
    data = publish(workspace, "rows", table)
    model = register_module(
        workspace, table, lambda recipe: torch.nn.Sequential(torch.nn.Linear(recipe.width, 1), torch.nn.Flatten(0)), data=data
    )
    from jupyter_mlp.serving.predictor import Predictor

    folder = deployed(workspace, model)
    predictor = Predictor.load(workspace.models / model)
    usual = rows_of(600, seed=5).drop_columns(["target"]).to_pylist()
    answers = predictor.predict_rows(usual)
    predictor.close()
    answer(folder, model, usual, answers)
    calm = monitor("delays")
    assert psi(calm) == {"dep_delay": "as trained", "carrier": "as trained", "prediction (target)": "as trained"}
    assert not calm.metrics["output_drifted"] and [one.name for one in calm.alarms] == ["state"]
    answer(folder, model, usual * 3, [value + 2.0 for value in answers] * 3, NOW + DAY * 4)
    moved = monitor("delays")
    assert psi(moved)["prediction (target)"] == "drifted" and moved.metrics["output_drifted"] and moved.metrics["drifted"] == []
    assert [one["answers"] for one in moved.history] == [600, 1800] and "Latency over time" in str([one.title for one in moved.figures])
    json.dumps(moved.to_dict(), allow_nan=False)


def test_an_alarm_reaches_the_receiver_once_and_a_guard_is_one(workspace: Workspace) -> None:
    model = make_model(workspace)
    folder = deployed(workspace, model)
    answer(folder, model, [{"dep_delay": None, "carrier": "ZZ"}] * 400, [1.0] * 400)
    segments.lose(folder.requests, 3, ".jsonl")
    with receiver() as (url, came, _):
        report = monitor("delays", notify=[url], guard=["p99<=1ms"])
        monitor("delays", notify=[url], guard=["p99<=1ms"])
    (told,) = came
    assert told["new"] == [one.says for one in report.alarms] and told["report"] == str(report.report)
    names = [one.name for one in report.alarms]
    assert names[0] == "state" and set(names[1:]) == {"drift dep_delay", "drift carrier", "guard p99<=1ms", "lost 3"}
    assert "dep_delay is missing in 100% of the rows, in training in 2%." in report.notes
    assert "carrier is outside of what training saw in 100% of the rows." in report.notes
    assert any(note.startswith("The drift of the answers is not judged, only shown: ") for note in report.notes)
    assert psi(report)["prediction (target)"] == "not judged" and report.metrics["lost"] == 3


def test_a_command_may_be_told(workspace: Workspace, tmp_path: Any) -> None:
    folder = deployed(workspace, make_model(workspace))
    script = tmp_path / "told.py"
    script.write_text(f"import sys; open({str(tmp_path / 'told.json')!r}, 'w').write(sys.stdin.read())")
    monitor("delays", notify=[f"command:{sys.executable} {script}"])
    assert json.loads((tmp_path / "told.json").read_text())["new"] == ["It is down."]
    assert folder.name == "delays"
    with pytest.raises(Exception, match="Nobody can be told"):
        monitor("delays", notify=["ftp://x"])
