"""Endpoints on a real Ray Serve: the promises of test_serving.py hold where the replicas run on a cluster. One head, in order."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import ray_server
from models import make_model

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, UnreachableError
from jupyter_mlp.deployment import Deployment
from jupyter_mlp.frontends import cli
from jupyter_mlp.monitoring import monitor
from jupyter_mlp.serving import places, requests_log
from jupyter_mlp.store import deployments
from jupyter_mlp.store.workspace import Workspace, current

ROW = {"dep_delay": 4.0, "carrier": "UA"}
_OTHER = """
from ray import serve

@serve.deployment(ray_actor_options={"num_cpus": 0})
class Other:
    def __call__(self, request):
        return "another's"

application = Other.bind()
"""


class Lab:
    """The cluster, the workspace that its node shares, and a model that always answers 1."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self.web = cluster.web
        self.gate = ray_server.Gate(cluster.web)
        self.port = ray_server.free_port()
        (folder / "other.py").write_text(_OTHER)
        self._told("PUT", self._another(folder))
        root = folder / "workspace"
        root.mkdir()
        lines = ["[cluster.lab]", 'kind = "ray"', f'address = "{self.gate.url}"', "[cluster.queue]", 'kind = "slurm"']
        (root / "mlp.toml").write_text("\n".join(lines))

    def _another(self, folder: Path) -> dict[str, Any]:
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        other = {"name": "another", "route_prefix": "/another", "import_path": "other:application"}
        other["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
        return {"http_options": {"host": "127.0.0.1", "port": self.port}, "applications": [other]}

    def _told(self, method: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.web}/api/serve/applications/", data, {"Content-Type": "application/json"}, method=method)
        return json.loads(urllib.request.urlopen(request, timeout=90).read() or b"null")

    @property
    def applications(self) -> dict[str, Any]:
        """What Serve says it runs."""
        return self._told("GET")["applications"]

    def answers(self) -> str:
        """What the application of somebody else answers."""
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/another", timeout=20).read().decode()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ray_server.running(nodes=0, head_cpus=4) as cluster:
        yield Lab(cluster, tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def shared(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for all tests: a replica takes seconds to start."""
    root = tmp_path_factory.getbasetemp() / "lab0" / "workspace"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_WORKSPACE", str(root))
        yield current()
        places.stop_all(current())


@pytest.fixture(scope="module")
def one(shared: Workspace) -> str:
    return make_model(shared, constant=1.0)


@pytest.fixture(scope="module")
def two(shared: Workspace) -> str:
    return make_model(shared, constant=2.0)


@pytest.fixture(scope="module")
def at(shared: Workspace, one: str) -> Deployment:
    return mlp.deploy(one, to="delays", cluster="lab", replicas=2)


def ask(at: Deployment, body: Any, path: str = "/predict", headers: dict[str, str] | None = None) -> tuple[int, Any]:
    where = urlsplit(at.address)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=20)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", f"{where.path}{path}", data, at.headers if headers is None else headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Load:
    """Requests one after the other, each on a connection of its own, so that all replicas get some."""

    def __init__(self, at: Deployment) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.failures: list[str] = []
        self._at, self._stop = at, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(ask(self._at, {"instances": [ROW, ROW]}))
            except Exception as error:  # noqa: BLE001 - every kind of failure counts
                self.failures.append(repr(error))
            time.sleep(0.005)


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def is_replica(pid: int) -> bool:
    """Whether this process is a replica: the number of one that is gone may be another's."""
    try:
        return b"ServeReplica" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_the_same_endpoint_answers_on_the_cluster(lab: Lab, shared: Workspace, at: Deployment, one: str) -> None:
    assert (at.url, at.state, at.where) == (f"http://127.0.0.1:{lab.port}/delays/v1/models/delays:predict", "ready", "lab")
    status, body = ask(at, {"instances": [ROW]}, "/v1/models/delays:predict")
    assert (status, body["predictions"], body["model"]) == (200, [1.0], one)
    assert ask(at, None, "/health", {}) == (200, {"live": True, "ready": True})
    assert ask(at, None, "/openapi.json")[1]["servers"] == [{"url": "/delays"}]
    assert len(deployments.folder(shared, "delays").replicas()) == 2
    assert mlp.predict("endpoint:delays", data=[ROW]).predictions == [1.0]
    assert mlp.endpoint("delays").to_dict()["state"] == "ready"


def test_it_refuses_what_it_refuses_on_this_machine(at: Deployment) -> None:
    asked = {"instances": [ROW]}
    assert ask(at, asked, headers={})[0] == 401
    assert ask(at, asked, headers={"Authorization": "Bearer wrong"})[0] == 401
    status, body = ask(at, {"instances": [{"dep_delay": "late", "carrier": "UA"}]})
    assert (status, body["field"]) == (422, "instances[0].dep_delay")
    assert ask(at, {"instances": [ROW]}, "/nothing")[0] == 404


def test_swaps_and_a_rollback_under_load_lose_nothing(at: Deployment, one: str, two: str) -> None:
    with Load(at) as load:
        for model in (two, one, two):
            assert mlp.deploy(model, to="delays").seconds < 20
        after = len(load.answers)
        until(lambda: len(load.answers) > after + 20)
        answered = [body["model"] for _, body in load.answers[after + 1 :]]
        at.rollback()
        mlp.deploy(two, to="delays", traffic=30)
        mlp.endpoint("delays").remove(f"model:{two}")
    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}
    assert set(answered) == {two}, "a deploy returns when every replica has followed"
    for _, body in load.answers:
        assert (body["model"], body["predictions"]) in ((one, [1.0, 1.0]), (two, [2.0, 2.0]))
    assert [variant.model for variant in mlp.endpoint("delays").variants] == [one]


def test_a_ramp_moves_by_itself(shared: Workspace, at: Deployment, one: str, two: str) -> None:
    asked = ["--to", "delays", "--ramp", "50,100", "--every", "1s", "--cluster", "lab", "--replicas", "2"]
    assert cli.main(["deploy", f"model:{two}", *asked]) == 0
    until(lambda: [variant.model for variant in mlp.endpoint("delays").variants] == [two])
    until(lambda: {ask(at, {"instances": [ROW]})[1]["model"] for _ in range(10)} == {two})
    made = shared.activities.maker(deployments.newest(shared, "delays"))
    assert made is not None and str(made.parameters["why"]).startswith("ramp: ")
    assert mlp.endpoint("delays").rollback().variants[0].weight == 50
    assert mlp.deploy(one, to="delays").predict(ROW) == [1.0]


def test_all_replicas_are_monitored(shared: Workspace, at: Deployment) -> None:
    logs = requests_log.currents(deployments.folder(shared, "delays").requests)
    assert len(logs) == 2 and all(log.stat().st_size for log in logs)
    report = monitor("delays")
    assert report.state == "running" and report.metrics["requests"] > 20


def test_a_model_that_cannot_answer_takes_no_traffic(shared: Workspace, at: Deployment, one: str) -> None:
    bad = make_model(shared, constant=float("nan"))
    with pytest.raises(JobError, match=r"refuses this deploy.*\nWhat was served before still is") as caught:
        mlp.deploy(bad, to="delays")
    assert len(str(caught.value).splitlines()) == 2
    assert ask(at, {"instances": [ROW]})[1]["model"] == one
    assert at.state == "ready"


def test_a_replica_that_is_killed_comes_back(shared: Workspace, at: Deployment, one: str) -> None:
    folder = deployments.folder(shared, "delays")
    killed, told = next(iter(folder.replicas().items()))
    os.kill(told["pid"], signal.SIGKILL)

    def alive() -> set[str]:
        return {name for name, one in folder.replicas().items() if is_replica(one["pid"])}

    until(lambda: killed not in alive() and len(alive()) == 2)
    until(lambda: at.state == "ready")
    assert {ask(at, {"instances": [ROW]})[1]["model"] for _ in range(10)} == {one}


def test_what_makes_no_sense_is_refused_in_two_lines(lab: Lab, at: Deployment, one: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said, hint in (
        ({"to": "other", "cluster": "lab", "port": 9000}, "the port is that of Ray Serve's proxies", "Leave --port out"),
        ({"to": "other", "cluster": "lab", "listen": "0.0.0.0"}, "the address is that of Ray Serve's proxies", "Leave --listen out"),
        ({"to": "other", "cluster": "queue"}, "Endpoints do not run on slurm", "name a Ray cluster"),
        ({"to": "other", "replicas": 1000}, "this machine can serve with", "name a cluster"),
        ({"to": "delays", "cluster": "local"}, "runs on the cluster lab already", "stop it first"),
        ({"to": "another", "cluster": "lab"}, "somebody else is at /another", "--to another_2"),
    ):
        with pytest.raises((InvalidInputError, ConflictError), match=said) as caught:
            mlp.deploy(one, **arguments)
        assert hint in caught.value.hint
    assert cli.main(["endpoint", "delays", "--manifest", "systemd"]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_a_cluster_that_does_not_answer_is_said(lab: Lab, shared: Workspace, at: Deployment, two: str) -> None:
    before = deployments.folder(shared, "delays").wanted()
    time.sleep(1.0)  # what was seen a moment ago counts as seen
    lab.gate.close()
    try:
        begun = time.monotonic()
        assert at.state == "unreachable"
        assert mlp.endpoint("delays").to_dict()["state"] == "unreachable"
        for failing in (lambda: mlp.deploy(two, to="delays"), at.stop):
            with pytest.raises(UnreachableError, match="The Ray cluster lab does not answer") as caught:
                failing()
            assert len(str(caught.value).splitlines()) == 2
        assert time.monotonic() - begun < 10
    finally:
        lab.gate.open()
    assert deployments.folder(shared, "delays").wanted() == before, "nothing has changed"
    until(lambda: at.state == "ready")


def test_stop_takes_out_its_own_application_and_no_other(lab: Lab, at: Deployment, one: str) -> None:
    assert set(lab.applications) == {"another", "delays"}
    at.stop()
    assert at.state == "stopped"
    assert set(lab.applications) == {"another"}
    assert lab.answers() == "another's"
    again = mlp.deploy(one, to="delays", replicas=1)
    assert (again.where, again.state, again.predict(ROW)) == ("lab", "ready", [1.0])
