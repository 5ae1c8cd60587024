"""Endpoints as real processes over HTTP: swaps under load, crashes, refusals."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from models import ODD, make_model, rows_of, served
from receivers import receiver

import jupyter_mlp as mlp
from jupyter_mlp.core.clusters import Cluster
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, NotFoundError
from jupyter_mlp.deployment import Deployment, deploy, endpoint
from jupyter_mlp.evaluation import evaluate
from jupyter_mlp.frontends import cli
from jupyter_mlp.monitoring import monitor
from jupyter_mlp.prediction import Answers, predict
from jupyter_mlp.serving import places, requests_log
from jupyter_mlp.store import datasets, deployments
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import Workspace

ROW = {"dep_delay": 4.0, "carrier": "UA"}


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


def ask(
    at: Deployment, body: Any = None, path: str = "/predict", method: str = "POST", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, at.headers if headers is None else headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


class Load:
    """Requests without pause on kept-open connections; remembers every answer."""

    def __init__(self, at: Deployment, threads: int = 3) -> None:
        self.answers: list[tuple[int, str, float]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._at, self._headers = at, at.headers
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._at.port, timeout=20)
        body = json.dumps({"instances": [ROW, ROW]}).encode()
        while not self._stop.is_set():
            try:
                connection.request("POST", "/predict", body, self._headers)
                response = connection.getresponse()
                found = json.loads(response.read())
                assert len(set(found["predictions"])) == 1
                self.answers.append((response.status, found["model"], found["predictions"][0]))
            except Exception as error:  # noqa: BLE001 - every kind of failure counts
                self.failures.append(repr(error))
                connection.close()
            time.sleep(0.001)


def test_deploy_answers_over_http_and_is_recorded(serving: Workspace) -> None:
    model = make_model(serving)
    made = deploy(model, to="delays")
    status, body = ask(made, {"instances": [ROW]}, f"/v1/models/{made.name}:predict")
    assert status == 200
    assert set(body) == {"predictions", "model", "id"}
    assert body["model"] == model
    assert made.predict([ROW, ROW]) == body["predictions"] * 2
    assert ask(made, path="/health", method="GET", headers={}) == (200, {"live": True, "ready": True})
    assert ask(made, path="/metadata", method="GET")[1]["variants"][0]["model"] == model
    activity = serving.activities.maker(made.reference)
    assert activity is not None and str(activity.used[0]) == f"model:{model}"
    found = endpoint("delays")
    assert (found.ref, found.state, found.variants) == (made.ref, "ready", made.variants)
    assert made.headers["Authorization"].split()[1] not in repr(made) + json.dumps(made.to_dict())
    token = serving.endpoints / "delays" / "token"
    assert token.stat().st_mode & 0o777 == 0o600


def test_open_inference_protocol(serving: Workspace) -> None:
    made = deploy(make_model(serving), to="delays")
    inputs = [
        {"name": "dep_delay", "shape": [2], "datatype": "FP64", "data": [4.0, None]},
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "AA"]},
    ]
    status, body = ask(made, {"inputs": inputs, "id": "mine"}, "/v2/models/delays/infer")
    assert status == 200 and body["id"] == "mine"
    assert body["outputs"][0]["shape"] == [2]
    assert body["outputs"][0]["data"][0] == made.predict(ROW)[0]
    assert ask(made, {"inputs": [{**inputs[0], "shape": [3]}]}, "/v2/models/delays/infer")[0] == 422
    for wrong, named in (
        ([*inputs, inputs[0]], "inputs[2].name"),
        ([{**inputs[0], "sha": 1}], "inputs[0].sha"),
        ([{**inputs[0], "shape": [9]}], "inputs[0].shape"),
    ):
        status, body = ask(made, {"inputs": wrong}, "/v2/models/delays/infer")
        assert (status, body["field"]) == (422, named)


def test_hot_swaps_under_load_lose_nothing_and_mix_nothing(serving: Workspace) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    at = deploy(one, to="delays")
    with Load(at) as load:
        for model in (two, one) * 3:
            deploy(model, to="delays")
            time.sleep(0.05)
        deploy(two, to="delays", traffic=50)
        time.sleep(0.3)
    assert load.failures == []
    assert {status for status, _, _ in load.answers} == {200}
    assert {(model, value) for _, model, value in load.answers} == {(one, 1.0), (two, 2.0)}
    assert len(load.answers) > 200


def test_a_bad_model_is_refused_and_the_old_keeps_serving(serving: Workspace) -> None:
    good, bad = make_model(serving, constant=1.0), make_model(serving, constant=float("nan"))
    broken = make_model(serving, constant=3.0)
    with (serving.models / broken / "model.onnx").open("ab") as file:
        file.write(b"more")
    at = deploy(good, to="delays")
    with Load(at) as load:
        with pytest.raises(JobError, match="no finite number"):
            deploy(bad, to="delays")
        with pytest.raises(JobError, match="was changed"):
            deploy(broken, to="delays", traffic=10)
        time.sleep(0.2)
    assert load.failures == [] and {model for _, model, _ in load.answers} == {good}
    assert [v.model for v in endpoint("delays").variants] == [good]
    with pytest.raises(JobError, match="no finite number"):
        deploy(bad, to="fresh")
    with pytest.raises(NotFoundError, match="no endpoint fresh"):
        endpoint("fresh")
    assert not deployments.folder(serving, "fresh").running


def test_a_killed_serving_process_is_back_within_five_seconds(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    child = deployments.folder(serving, "delays").actual()["pid"]
    os.kill(child, signal.SIGKILL)
    begun = time.monotonic()
    assert ask(at, {"instances": [ROW]})[1]["predictions"] == [1.0]  # waits in the socket's queue, is not refused
    assert time.monotonic() - begun < 5
    assert deployments.folder(serving, "delays").actual()["pid"] != child


def test_who_stands_by_serves_when_the_serving_process_is_killed(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    folder = deployments.folder(serving, "delays")
    process = folder.process()
    assert process is not None
    parent = psutil.Process(process.pid)
    _until(lambda: len(parent.children()) == 2, 20)
    (standby,) = [one for one in parent.children() if one.pid != folder.actual()["pid"]]
    assert len(at.predict([ROW] * 200)) == 200
    assert "/pandas/" not in Path(f"/proc/{folder.actual()['pid']}/maps").read_text(), "a request of many rows waits for pandas"
    time.sleep(1)  # it has imported all it needs
    assert standby.memory_info().rss < 120e6 and at.predict([ROW])
    os.kill(folder.actual()["pid"], signal.SIGKILL)
    _until(lambda: folder.actual().get("pid") == standby.pid, 5)
    assert ask(at, {"instances": [ROW]})[1]["predictions"] == [1.0]
    _until(lambda: len(parent.children()) == 2, 20)  # and there is another
    other = [one for one in parent.children() if one.pid != standby.pid]
    other[0].kill()  # who stands by may die, too
    standby.kill()
    _until(lambda: folder.actual().get("pid") not in (standby.pid, other[0].pid), 10)
    assert ask(at, {"instances": [ROW]})[1]["predictions"] == [1.0]
    _until(lambda: len(parent.children()) == 2, 20)
    family = parent.children()
    parent.kill()
    _until(lambda: sum(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family) <= 1, 10)
    assert ask(at, {"instances": [ROW]})[1]["predictions"] == [1.0]


def test_a_killed_parent_is_replaced_and_stop_ends_everything(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    folder = deployments.folder(serving, "delays")
    process, child = folder.process(), folder.actual()["pid"]
    assert process is not None
    with Load(at, threads=1) as load:
        os.kill(process.pid, signal.SIGKILL)
        _until(lambda: folder.actual().get("pid") not in (None, child) and folder.running, 15)
    assert len(load.failures) <= 1  # a connection that idles at the very moment may be closed
    assert at.predict(ROW) == [1.0]
    new = folder.process()
    assert new is not None and new.pid != process.pid
    pid = folder.actual()["pid"]
    at.stop()
    _until(lambda: not new.alive and not psutil.pid_exists(pid), 10)
    assert endpoint("delays").state == "stopped"
    assert requests_log.table(folder.requests).num_rows > 0
    with pytest.raises(JobError, match="cannot be reached"):
        at.predict(ROW)
    assert deploy(at.variants[0].model, to="delays").port == at.port


def test_a_removed_workspace_takes_its_endpoints_with_it(serving: Workspace) -> None:
    deploy(make_model(serving, constant=1.0), to="delays")
    folder = deployments.folder(serving, "delays")
    process, child = folder.process(), folder.actual()["pid"]
    assert process is not None
    shutil.rmtree(serving.root)
    _until(lambda: not process.alive and not psutil.pid_exists(child), 10)
    assert not folder.path.exists(), "nothing of it comes back"


def test_a_model_that_needs_its_code_runs_in_its_own_process(serving: Workspace) -> None:
    exported, odd = make_model(serving), make_model(serving, code=ODD)
    at = deploy(exported, to="delays")
    wanted = at.predict([ROW, {**ROW, "dep_delay": None}])
    with Load(at) as load:
        deploy(odd, to="delays")
        time.sleep(0.3)
    assert load.failures == [] and {model for _, model, _ in load.answers} == {exported, odd}
    assert at.predict([ROW, {**ROW, "dep_delay": None}]) == pytest.approx(wanted, abs=1e-4)
    child = psutil.Process(deployments.folder(serving, "delays").actual()["pid"])
    (worker,) = child.children()
    worker.kill()
    assert at.predict(ROW) == pytest.approx(wanted[:1], abs=1e-4)  # started again
    (worker,) = child.children()
    failing = make_model(serving, code=ODD.replace("found = self", "raise RuntimeError('no'); found = self"))
    with pytest.raises(JobError, match="RuntimeError: no"):
        deploy(failing, to="delays")
    deploy(exported, to="delays")
    _until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 5)


def test_a_model_that_kills_the_process_gives_way_to_the_last_good_one(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays")
    folder = deployments.folder(serving, "delays")
    good = folder.wanted()
    folder.want({**good, "generation": good["generation"] + 1, "variants": [{"model": "00000000-dead", "weight": 100, "shadow": False}]})
    _until(lambda: folder.actual().get("error"), 5)
    os.kill(folder.actual()["pid"], signal.SIGKILL)  # what is wanted cannot be loaded when it starts again
    assert at.predict(ROW) == [1.0]
    actual = folder.actual()
    assert actual["serving"] == good["variants"] and "has no folder" in actual["error"]


def test_start_brings_back_what_was_served(serving: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    deploy(one, to="delays")
    at = deploy(two, to="delays", ramp="10,50,100", every="1h")
    ramp = deployments.folder(serving, "delays").wanted()["ramp"]
    everything = _family(serving, "delays")
    for end in (psutil.Process.suspend, psutil.Process.kill, lambda process: process.wait(5)):  # as a machine goes down: all at once
        for process in everything:
            end(process)
    found = mlp.status()
    assert [(e.name, e.state, e.variants) for e in found.endpoints] == [("delays", "down", at.variants)]
    assert "mlp endpoint delays --start" in repr(found)
    capsys.readouterr()
    assert cli.main(["endpoint", "delays", "--start", "--json"]) == 0
    started = json.loads(capsys.readouterr().out)
    assert (started["state"], started["url"]) == ("ready", at.url)
    again = deployments.folder(serving, "delays").wanted()["ramp"]
    assert {**again, "at": 0} == {**ramp, "at": 0} and again["at"] > ramp["at"], "the step under way takes its whole time again"
    assert f"delays    ready  {one[:8]} 90 %, {two[:8]} 10 %" in repr(mlp.status())
    assert cli.main(["endpoint", "delays", "--start", "--stop"]) == 1
    assert "--start and --stop are two things" in capsys.readouterr().err
    again = endpoint("delays")
    assert again.start() is again, "what runs is left alone"
    again.stop()
    assert mlp.status().endpoints == ()
    assert again.start().rollback().variants == deploy(one, to="delays").variants, "a start is no step back"


def test_an_endpoint_whose_plug_in_is_gone_hides_no_other(serving: Workspace) -> None:
    model = make_model(serving)
    deploy(model, to="delays")
    deploy(model, to="elsewhere").stop()
    elsewhere = deployments.folder(serving, "elsewhere")
    stopped = elsewhere.wanted()
    elsewhere.want({**stopped, "stopped": False, "where": Cluster("edge", "nomad").to_dict()})
    assert {one.name: one.state for one in mlp.status().endpoints} == {"delays": "ready", "elsewhere": "unreachable"}
    assert endpoint("elsewhere").state == "unreachable"
    with pytest.raises(InvalidInputError, match="Endpoints do not run on nomad"):
        endpoint("elsewhere").stop()
    elsewhere.want(stopped)


def test_rollback_walks_back(serving: Workspace) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    with pytest.raises(NotFoundError, match="nothing before"):
        deploy(one, to="delays").rollback()
    second = deploy(two, to="delays", traffic=10)
    third = deploy(two, to="delays")
    back = third.rollback()
    assert back.variants == second.variants
    assert back.rollback().variants == (deploy(one, to="delays").variants)


def test_a_model_that_was_tried_is_taken_out(serving: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = (make_model(serving, constant=value) for value in (1.0, 2.0, 3.0))
    deploy(one, to="delays")
    deploy(two, to="delays", ramp="10,50,100", every="1h")
    at = deploy(three, to="delays", shadow=True)
    folder = deployments.folder(serving, "delays")
    ramp = folder.wanted()["ramp"]
    assert cli.main(["endpoint", "delays", "--remove", f"model:{three}"]) == 0
    assert [(v["model"], v["weight"]) for v in folder.actual()["serving"]] == [(one, 90), (two, 10)]
    assert ramp and folder.wanted()["ramp"] == ramp, "the ramp of the others goes on"
    left = endpoint("delays").remove(f"model:{two}")
    assert at.predict([ROW] * 20) == [1.0] * 20 and folder.wanted()["ramp"] is None
    assert [variant.model for variant in left.rollback().variants] == [one, two]
    assert cli.main(["endpoint", "delays", "--remove", f"model:{three}"]) == 1
    assert f"Served are: model:{one}, model:{two}." in capsys.readouterr().err


def test_sticky_keys_shares_and_shadows(serving: Workspace) -> None:
    one, two, three = (make_model(serving, constant=value) for value in (1.0, 2.0, 3.0))
    deploy(one, to="delays")
    deploy(two, to="delays", traffic=30)
    at = deploy(three, to="delays", shadow=True)
    keyed = [{ask(at, {"instances": [ROW], "key": f"user{user}"})[1]["model"] for _ in range(3)} for user in range(40)]
    assert all(len(models) == 1 for models in keyed)
    assert set.union(*keyed) == {one, two}
    time.sleep(0.8)
    log = requests_log.table(serving.endpoints / "delays" / "requests").to_pylist()
    assert {row["model"] for row in log if row["shadow"]} == {three}
    assert sum(row["shadow"] for row in log) == sum(not row["shadow"] for row in log) == 120


def test_every_route_but_health_needs_the_token(serving: Workspace) -> None:
    at = deploy(make_model(serving), to="delays")
    paths = [
        "/predict",
        "/v1/models/delays:predict",
        "/v1/models/delays",
        "/v2/models/delays",
        "/v2/models/delays/infer",
        "/v2",
        "/v2/models/delays/ready",
        f"/v2/models/delays/versions/{at.variants[0].model}/infer",
        "/v2/models/delays/versions/x",
        "/metadata",
        "/",
        "/nothing",
        "/health/x",
    ]
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}):
                status, body = ask(at, {"instances": [ROW]}, path, method, headers)
                assert status == 401, (path, method)
                assert "Authorization: Bearer" in body["hint"]
    for path in ("/health", "/v2/health/live", "/v2/health/ready"):
        assert ask(at, {}, path, "POST", {})[0] == 405
        assert ask(at, path=path, method="GET", headers={}) == (200, {"live": True, "ready": True})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One endpoint for all malformed requests."""
    with served(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (b"{", 422, "body"),
        (b"", 422, "body"),
        (b"\xff\xfe", 422, "body"),
        (b"[" * 100_000, 422, "body"),
        (b'{"instances": [{"dep_delay": NaN, "carrier": "UA"}]}', 422, "instances[0].dep_delay"),
        (b'{"instances": [{"dep_delay": -Infinity, "carrier": "UA"}]}', 422, "instances[0].dep_delay"),
        (b'{"instances": [{"dep_delay": 1e999, "carrier": "UA"}]}', 422, ""),
        ({"instances": [{"carrier": "UA"}]}, 422, "instances[0].dep_delay"),
        ({"instances": [ROW, {**ROW, "dep_delay": "late"}]}, 422, "instances[1].dep_delay"),
        ({"instances": [{**ROW, "carrier": ["UA"]}]}, 422, "instances[0].carrier"),
        ({"instances": [{**ROW, "gate": 1}]}, 422, "instances[0].gate"),
        (b'{"instances": [{"dep_delay": ' + b"9" * 400 + b', "carrier": "UA"}]}', 422, "instances[0].dep_delay"),
        ({"instances": [{**ROW, "dep_delay": 1e250}]}, 422, "instances"),
        (b'{"instances": [{"dep_delay": 1, "carrier": "\\ud800"}]}', 422, "body"),
        ({"instances": [3]}, 422, "instances[0]"),
        ({"instances": []}, 422, "instances"),
        ({"instances": ROW}, 422, "instances"),
        ({"rows": [ROW]}, 422, "rows"),
        ({}, 422, "instances"),
        (b'{"instances": [' + b" " * (17 * 2**20) + b"]}", 413, "body"),
    ],
)
def test_malformed_requests_are_refused_by_name(shared: Deployment, body: Any, status: int, named: str) -> None:
    found, answer = ask(shared, body)
    assert found == status, answer
    assert named in answer.get("field", "") and "error" in answer
    assert "Traceback" not in json.dumps(answer)
    assert shared.predict(ROW)  # still fine


def test_unknown_routes_and_methods(shared: Deployment) -> None:
    assert ask(shared, {"instances": [ROW]}, "/v1/models/other:predict")[0] == 404
    assert ask(shared, None, "/predict", "GET")[0] == 405
    assert ask(shared, {}, "/metadata", "POST")[0] == 405


def test_a_wrong_request_does_not_hurt_its_batch_mates(shared: Deployment) -> None:
    results: list[int] = []

    def send(body: Any) -> None:
        results.append(ask(shared, body)[0])

    threads = [threading.Thread(target=send, args=({"instances": [ROW if i % 2 else {"carrier": "UA"}]},)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [200] * 10 + [422] * 10


def test_port_in_use_names_a_free_one(serving: Workspace) -> None:
    model = make_model(serving)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"Port {port} is in use") as refused:
            deploy(model, to="delays", port=port)
    free = int(refused.value.hint.split("port=")[1].split(",")[0])
    assert deploy(model, to="delays", port=free).port == free
    with pytest.raises(InvalidInputError, match="already listens"):
        deploy(model, to="delays", port=free + 1)


def test_an_endpoint_listens_where_it_is_told_and_still_wants_the_token(serving: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(serving)
    for wrong in ("192.0.2.1", "example.org", ""):
        with pytest.raises(InvalidInputError, match="is no address of this machine") as refused:
            deploy(model, to="delays", listen=wrong)
        assert "0.0.0.0" in refused.value.hint
    assert cli.main(["deploy", f"model:{model}", "--to", "delays", "--listen", "127.0.0.2"]) == 0
    assert "127.0.0.2" in capsys.readouterr().out
    at = endpoint("delays")
    assert at.address == f"http://127.0.0.2:{at.port}" and (at.listen, at.to_dict()["listen"], at.state) == (
        "127.0.0.2",
        "127.0.0.2",
        "ready",
    )
    assert ("listens on", "127.0.0.2") in at.card().facts and len(at.predict([ROW])) == 1
    connection = http.client.HTTPConnection("127.0.0.2", at.port, timeout=20)
    connection.request("POST", "/predict", json.dumps({"instances": [ROW]}))
    assert connection.getresponse().status == 401
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", at.port), 5)
    with pytest.raises(InvalidInputError, match=r"already listens on 127\.0\.0\.2"):
        deploy(model, to="delays", listen="0.0.0.0")
    assert deploy(make_model(serving), to="delays").address == at.address
    at.stop()
    assert at.start().address == at.address
    at.stop()
    at = deploy(model, to="delays", listen="0.0.0.0")
    assert at.address == f"http://127.0.0.1:{at.port}" and at.listen == "0.0.0.0" and at.state == "ready"
    socket.create_connection(("127.0.0.2", at.port), 5).close()


def test_a_name_that_serves_another_question_is_taken(serving: Workspace) -> None:
    deploy(make_model(serving), to="delays")
    other = make_model(serving, columns=("distance",), name="Other")
    with pytest.raises(ConflictError, match="delays is taken: it serves Delay") as refused:
        deploy(other, to="delays")
    assert "another name" in refused.value.hint
    with pytest.raises(InvalidInputError, match="cannot name an endpoint"):
        deploy(other, to="../delays")


def _dataset(workspace: Workspace, name: str, table: pa.Table) -> DatasetVersion:
    with workspace.activities.recording("query", name=name) as draft:
        ref = datasets.publish_table(workspace, draft, name, table)
    return datasets.load(workspace, ref)


@pytest.mark.parametrize(("task", "main"), [("regression", "mae"), ("binary", "auc"), ("multiclass", "accuracy")])
def test_evaluate_beats_the_baseline_and_says_by_how_much(workspace: Workspace, task: str, main: str) -> None:
    model = make_model(workspace, task=task)
    data = _dataset(workspace, "held_out", rows_of(3000, seed=8, task=task))
    found = evaluate(model, data="held_out", by="carrier")
    assert next(iter(found.metrics)) == main
    low, high = found.intervals[main]
    assert low <= found.metrics[main] <= high
    assert found.beats_baseline
    assert {part["value"] for part in found.slices} == {"UA", "AA", "DL"}
    assert all(figure.png and figure.png.startswith(b"\x89PNG") and figure.vega_lite for figure in found.figures)
    assert found.report is not None and "data:image/png" in found.report.read_text()
    activity = workspace.activities.maker(found.reference)
    assert activity is not None and {str(ref) for ref in activity.used} == {f"model:{model}", data.ref}
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(NotFoundError, match="no column gate"):
        evaluate(model, data="held_out", by="gate")


def test_predict_scores_datasets_and_asks_endpoints(serving: Workspace) -> None:
    model = make_model(serving)
    data = _dataset(serving, "flights", rows_of(2500, seed=4).drop_columns(["target"]))
    scored = predict(model, data="flights")
    assert isinstance(scored, DatasetVersion) and scored.reference.name == "flights_predictions"
    assert scored.schema.names == ["prediction", "dep_delay", "carrier"]
    assert {str(ref) for ref in scored.inputs} == {f"model:{model}", data.ref}
    again = predict(model, data="flights")
    assert isinstance(again, DatasetVersion) and again.reused and again.ref == scored.ref
    deploy(model, to="delays")
    online = predict("endpoint:delays", data="flights", into="online")
    assert isinstance(online, Answers) and online.data is not None
    assert online.predictions == pytest.approx(scored.to_arrow(["prediction"])["prediction"].to_pylist(), abs=1e-4)
    rows = predict("endpoint:delays", data=data.to_pandas().head(60))
    assert isinstance(rows, Answers) and list(rows) == pytest.approx(online.predictions[:60], abs=1e-4)
    assert isinstance(predict(model, data=[ROW]), Answers)
    with pytest.raises(InvalidInputError, match="dep_delay"):
        predict("endpoint:delays", data=[{"carrier": "UA"}])


def test_monitor_sees_traffic_errors_and_drift(serving: Workspace) -> None:
    model = make_model(serving)
    at = deploy(model, to="delays")
    quiet = monitor("delays")
    assert quiet.metrics["requests"] == 0 and "No request" in quiet.notes[0]
    usual = rows_of(1000, seed=6).drop_columns(["target"]).to_pylist()
    at.predict(usual[:50])
    assert any("from 200 rows on" in note for note in monitor("delays").notes)
    for start in range(0, 1000, 100):
        at.predict(usual[start : start + 100])
    ask(at, {"instances": [{"carrier": "UA"}]})
    found = monitor("endpoint:delays")
    assert found.metrics["drifted"] == [] and found.errors == {"422": 1}
    assert found.metrics["rows"] == 1050 and found.metrics["p99_ms"] > 0
    at.predict([{"dep_delay": 300.0, "carrier": "ZZ"}] * 1000)
    with receiver() as (url, came, _):
        drifted = monitor("delays", notify=[url])
        monitor("delays", notify=[url], guard=["p99<=1000s"])
    (told,) = came
    assert told["endpoint"] == "delays" and any(says.startswith("carrier drifted: PSI") for says in told["new"]), told
    assert [one.says for one in drifted.alarms] == told["new"] == told["standing"] and told["report"] == str(drifted.report)
    assert {"dep_delay", "carrier"} <= set(drifted.metrics["drifted"])
    assert "carrier is outside of what training saw in 49% of the rows." in drifted.notes
    assert any(note.startswith("The drift of the answers is not judged, only shown: ") for note in drifted.notes)
    assert drifted.report is not None and drifted.report.exists()
    activity = serving.activities.maker(drifted.reference)
    assert activity is not None and activity.used[0].kind == "endpoint"
    json.dumps(drifted.to_dict(), allow_nan=False)


def _family(workspace: Workspace, name: str) -> list[psutil.Process]:
    """The host of an endpoint and all that it started."""
    process = deployments.folder(workspace, name).process()
    assert process is not None
    host = psutil.Process(process.pid)
    return [host, *host.children(recursive=True)]


def _until(true: Any, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)
