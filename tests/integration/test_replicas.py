"""Several processes of this machine share an endpoint's port: swaps, crashes, logs and counters of all of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from models import ODD, make_model
from prometheus_client.parser import text_string_to_metric_families

from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.deployment import Deployment, deploy, endpoint
from jupyter_mlp.frontends import cli
from jupyter_mlp.monitoring import monitor
from jupyter_mlp.serving import places, requests_log
from jupyter_mlp.store import deployments
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import import_path
from jupyter_mlp.store.workspace import Workspace

ROW = {"dep_delay": 4.0, "carrier": "UA"}
_PROCESS = 12  # letters of an answer's id that say which process gave it


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


class Caller:
    """Asks on kept-open connections, a new one now and then; remembers every answer."""

    def __init__(self, at: Deployment) -> None:
        self._at, self._headers = at, at.headers
        self._connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
        self._left = 0

    def ask(self, body: Any = None) -> dict[str, Any]:
        """Send one request; 25 on each connection."""
        if not self._left:
            self._connection.close()
            self._left = 25
        self._left -= 1
        try:
            self._connection.request("POST", "/predict", json.dumps(body or {"instances": [ROW, ROW]}), self._headers)
            response = self._connection.getresponse()
            found = json.loads(response.read())
        except BaseException:
            self._left = 0
            raise
        assert response.status == 200, found
        assert isinstance(found, dict)
        return found


class Load:
    """Callers without pause."""

    def __init__(self, at: Deployment, callers: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(Caller(at),)) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, caller: Caller) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(caller.ask())
            except Exception as error:  # noqa: BLE001 - every kind of failure counts
                self.failures.append(repr(error))
            time.sleep(0.001)

    @property
    def processes(self) -> set[str]:
        """Which processes answered."""
        return {one["id"][:_PROCESS] for one in self.answers}


def test_two_processes_answer_count_and_log_as_one(serving: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    at = deploy(one, to="delays", replicas=2)
    deploy(two, to="delays", traffic=50)
    folder = deployments.folder(serving, "delays")
    assert (at.replicas, at.to_dict()["replicas"]) == (2, 2) and ("processes", 2) in endpoint("delays").card().facts
    with Load(at) as load:
        time.sleep(1)
    assert load.failures == [] and len(load.processes) == 2
    caller = Caller(at)
    keyed = [[caller.ask({"instances": [ROW], "key": f"user{key}"}) for key in range(40)] for _ in range(20)]
    assert len({answer["id"][:_PROCESS] for answers in keyed for answer in answers}) == 2
    assert all(len({answers[key]["model"] for answers in keyed}) == 1 for key in range(40)), "a key stays on its model everywhere"
    asked = len(load.answers) + 40 * 20
    _until(lambda: sum(_requests(at).values()) == asked, 5)  # what the others counted in the last half second comes a moment later
    assert [sum(_requests(at).values()) for _ in range(12)] == [asked] * 12, "every process shows the sum"
    _until(lambda: requests_log.table(folder.requests).num_rows == asked, 5)
    ids = requests_log.table(folder.requests).column("id").to_pylist()
    assert len(set(ids)) == asked and {path.name for path in folder.requests.glob("*.jsonl")} == {"current.0.jsonl", "current.1.jsonl"}
    assert monitor("delays").metrics["requests"] == asked
    assert cli.main(["endpoint", "delays"]) == 0
    assert "processes" in capsys.readouterr().out


def test_their_number_is_kept_and_one_a_core_is_the_most(serving: Workspace) -> None:
    model = make_model(serving, constant=1.0)
    with pytest.raises(InvalidInputError, match="this machine can serve with"):
        deploy(model, to="delays", replicas=len(os.sched_getaffinity(0)) + 1)
    at = deploy(model, to="delays", replicas=2)
    folder = deployments.folder(serving, "delays")
    host = folder.process()
    assert host is not None
    _until(lambda: len(psutil.Process(host.pid).children()) == 3, 20)  # one stands by for both
    family = psutil.Process(host.pid).children()
    at.stop()
    _until(lambda: not host.alive and not any(_lives(one.pid) for one in family), 10)
    before = _pids(folder)
    at.start()
    assert _are_others(before, _pids(folder)) and at.replicas == 2 and at.predict(ROW) == [1.0]
    at.stop()
    assert deploy(model, to="delays", replicas=1).replicas == 1 and at.predict(ROW) == [1.0]


def test_a_container_has_as_many(serving: Workspace, tmp_path: Path) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays", replicas=2)
    container = yaml.safe_load(at.manifest("kserve").text)["spec"]["predictor"]["containers"][0]
    at.stop()
    words = [sys.executable, *container["command"][1:], *(str(at.port) if word == "8080" else word for word in container["args"])]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": import_path(), "TMPDIR": str(tmp_path)}
    started = subprocess.Popen(words, env={**environment, "MLP_ENDPOINT_TOKEN": at.headers["Authorization"].split()[1]}, cwd=tmp_path)
    try:
        _until(lambda: deployments.answers(at.address), 30)
        assert len(_answering(at)) == 2
    finally:
        started.terminate()
        assert started.wait(20) == 0


def test_another_number_of_processes_takes_over_under_load(serving: Workspace) -> None:
    one, two, bad = (make_model(serving, constant=value) for value in (1.0, 2.0, float("nan")))
    at = deploy(one, to="delays")
    folder = deployments.folder(serving, "delays")
    host = folder.process()
    assert host is not None
    with Load(at) as load:
        for number, model in ((2, two), (1, one), (2, one)):
            deploy(model, to="delays", replicas=number)
            assert folder.actual()["processes"] == number == at.replicas
            _until(lambda number=number: len(_answering(at)) == number, 10)
        with pytest.raises(JobError, match="no finite number"):
            deploy(bad, to="delays", replicas=1)
        assert at.replicas == 2 and len(_answering(at)) == 2
        deploy(two, to="delays", replicas=1)
        _until(lambda: len(psutil.Process(host.pid).children()) == 2, 20)  # the others have left, and one stands by
    assert load.failures == []
    assert {(answer["model"], answer["predictions"][0]) for answer in load.answers} == {(one, 1.0), (two, 2.0)}
    os.kill(host.pid, signal.SIGKILL)
    pid = folder.actual()["pid"]
    _until(lambda: folder.actual()["pid"] != pid and folder.running, 20)
    assert [Caller(at).ask()["predictions"][0] for _ in range(20)] == [2.0] * 20, "one process serves both sockets"


def test_swaps_under_load_lose_nothing_and_a_bad_model_is_refused_by_all(serving: Workspace, tmp_path: Path) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    bad = make_model(serving, constant=float("nan"))
    only_once = f"import os\nos.close(os.open({str(tmp_path / 'loaded')!r}, os.O_CREAT | os.O_EXCL))\n"
    picky = make_model(serving, code=only_once + ODD)
    at = deploy(one, to="delays", replicas=2)
    folder = deployments.folder(serving, "delays")
    with Load(at) as load:
        for model in (two, one) * 3:
            deploy(model, to="delays")
            assert {said["serving"][0]["model"] for said in folder.replicas().values()} == {model}, "all have followed"
        with pytest.raises(JobError, match="no finite number"):
            deploy(bad, to="delays")
        with pytest.raises(JobError, match="FileExistsError"):
            deploy(picky, to="delays")  # one process takes it, the other cannot
        _until(lambda: folder.actual()["generation"] == folder.wanted()["generation"], 5)
        assert {said["serving"][0]["model"] for said in folder.replicas().values()} == {one}
        assert deploy(two, to="delays").rollback().variants[0].model == one
        assert {said["serving"][0]["model"] for said in folder.replicas().values()} == {one}
    assert load.failures == [] and len(load.processes) == 2
    assert {(answer["model"], answer["predictions"][0]) for answer in load.answers if answer["model"] != picky} == {(one, 1.0), (two, 2.0)}
    ids = [answer["id"] for answer in load.answers]
    _until(lambda: len(_logged(folder)) == len(ids), 5)
    assert _logged(folder) == Counter(ids), "each answer is in the log once"


def test_a_killed_process_and_a_killed_parent_are_replaced_under_load(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays", replicas=2)
    folder = deployments.folder(serving, "delays")
    parent = folder.process()
    assert parent is not None
    _until(lambda: len(psutil.Process(parent.pid).children()) == 3, 20)
    with Load(at) as load:
        seen = 0.0
        for number, slot in enumerate(("0", "1")):
            _until(lambda number=number: len(load.processes) == 2 + number, 10)  # the system deals connections out: not at once to all
            before = _pids(folder)
            os.kill(before[slot], signal.SIGKILL)
            begun = time.monotonic()
            _until(lambda slot=slot, before=before: _pids(folder)[slot] != before[slot], 5)
            assert time.monotonic() - begun < 5 and {**_pids(folder), slot: 0} == {**before, slot: 0}, "the other serves on"
            counted = sum(_requests(at).values())
            assert counted >= seen, "no number goes back"
            seen = counted
            _until(lambda: len(psutil.Process(parent.pid).children()) == 3, 20)
        assert len(load.failures) <= 8, "no more than a request on each connection to a killed process"
        _until(lambda: len(load.processes) == 4, 10)
        failed, before = len(load.failures), _pids(folder)
        os.kill(parent.pid, signal.SIGKILL)
        _until(lambda: _are_others(before, _pids(folder)) and folder.running, 20)
        _until(lambda: not any(_lives(pid) for pid in before.values()), 10)
        new = folder.process()
        assert new is not None and new.pid != parent.pid
        assert len(load.failures) == failed, "those that leave answer what comes on their connections"
        _until(lambda: len(psutil.Process(new.pid).children()) == 3, 20)
        _until(lambda: len(load.processes) == 6, 10)
    assert {answer["predictions"][0] for answer in load.answers} == {1.0}
    assert sum(_requests(at).values()) >= seen
    logged = _logged(folder)
    assert logged and set(logged.values()) == {1}, "no answer is logged twice"


def test_the_port_outlives_the_parent_and_one_of_two_processes(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="delays", replicas=2)
    folder = deployments.folder(serving, "delays")
    parent, before = folder.process(), _pids(folder)
    assert parent is not None
    host = psutil.Process(parent.pid)
    host.suspend()  # nobody starts another while both are killed
    os.kill(before["1"], signal.SIGKILL)
    host.kill()
    answers = [Caller(at).ask() for _ in range(20)]  # those that came to the dead process wait in its queue
    assert [answer["predictions"] for answer in answers] == [[1.0, 1.0]] * 20
    _until(lambda: _are_others(before, _pids(folder)) and folder.running, 20)
    assert len({Caller(at).ask()["id"][:_PROCESS] for _ in range(40)}) == 2


def _answering(at: Deployment) -> set[str]:
    """The processes that take new connections."""
    return {Caller(at).ask()["id"][:_PROCESS] for _ in range(30)}


def _pids(folder: EndpointFolder) -> dict[str, int]:
    return {slot: said["pid"] for slot, said in folder.replicas().items()}


def _are_others(before: dict[str, int], now: dict[str, int]) -> bool:
    return not set(before.values()) & set(now.values())


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _logged(folder: EndpointFolder) -> Counter[str]:
    return Counter(requests_log.table(folder.requests).column("id").to_pylist())


def _requests(at: Deployment) -> dict[str, float]:
    """What one scrape, which reaches any of the processes, shows."""
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
    try:
        connection.request("GET", "/metrics", headers=at.headers)
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{s.labels['model']} {s.labels['status']}": s.value for s in samples if s.name == "mlp_requests_total"}


def _until(true: Any, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)
