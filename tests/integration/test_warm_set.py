"""More endpoints than their memory holds: who goes cold, what is said of it, and that no request is lost by it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from models import ODD, make_model

import jupyter_mlp as mlp
from jupyter_mlp.deployment import Deployment, deploy, endpoint
from jupyter_mlp.frontends import cli
from jupyter_mlp.serving import places, warmth
from jupyter_mlp.serving.warmth import Budget
from jupyter_mlp.store import deployments
from jupyter_mlp.store.workspace import Workspace

ROW = {"dep_delay": 4.0, "carrier": "UA"}
SLOW = ODD.replace("found = self", "import time; time.sleep(3 if len(x) > 5 else 0); found = self")


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


def report(text: str) -> None:
    """Show a figure where pytest runs with -s."""
    sys.stdout.write(f"\n{text}\n")


def until(holds: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def state_of(workspace: Workspace) -> dict[str, str]:
    return places.states(workspace, deployments.names(workspace))


def deployed(workspace: Workspace, names: str) -> dict[str, Deployment]:
    """Endpoints that answer 1.0, 2.0, ..."""
    return {name: deploy(make_model(workspace, constant=at + 1.0, name=name.upper()), to=name) for at, name in enumerate(names)}


def memory_of_one(workspace: Workspace) -> float:
    """Bytes of the smallest endpoint, when all were measured with their models."""
    until(lambda: all(one.state == warmth.WARM for one in heard(workspace)), 20)
    time.sleep(6)  # they look again
    return min(one.memory for one in heard(workspace))


def heard(workspace: Workspace) -> list[warmth.Report]:
    return warmth.heard(workspace.endpoints, time.time())


def family(workspace: Workspace, name: str) -> list[psutil.Process]:
    process = deployments.folder(workspace, name).process()
    assert process is not None
    return psutil.Process(process.pid).children(recursive=True)


def test_the_endpoint_used_longest_ago_gives_its_memory_back_and_loads_again(serving: Workspace) -> None:
    at = deployed(serving, "abc")
    one = memory_of_one(serving)
    assert state_of(serving) == {"a": "ready", "b": "ready", "c": "ready"}, "half of the machine's memory holds all"
    budget = Budget(2.6 * one, 1.0)
    for name in "abc":  # a was used longest ago
        assert at[name].predict(ROW)
        time.sleep(0.6)
    warmth.allow(serving.endpoints, budget)
    until(lambda: state_of(serving) == {"a": "cold", "b": "ready", "c": "ready"}, 20)
    assert family(serving, "a") == []
    until(lambda: sum(said.memory for said in heard(serving)) <= budget.memory, 10)
    until(lambda: all(len(family(serving, name)) == 1 for name in "bc"), 10)  # who stands by goes, too
    host = deployments.folder(serving, "a").process()
    assert host is not None
    report(f"{one / 2**20:.0f} MB warm, {warmth.memory(host.pid) / 2**20:.1f} MB cold")
    assert warmth.memory(host.pid) < 14 * 2**20
    for _ in range(3):  # looking at it, and probing it, does not wake it
        assert "a         ready (cold: loads at the next request)" in repr(mlp.status())
        assert "ready (cold: loads at the next request)" in repr(endpoint("a"))
        assert endpoint("a").to_dict()["state"] == "cold"
        time.sleep(0.5)
    begun = time.monotonic()
    assert at["a"].predict(ROW) == [1.0]
    report(f"answered {time.monotonic() - begun:.2f} s after it was cold")
    assert endpoint("a").state == "ready"
    until(lambda: state_of(serving) == {"a": "ready", "b": "cold", "c": "ready"}, 20)
    for name, wanted in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        assert at[name].predict(ROW) == [wanted]
    warmth.allow(serving.endpoints, Budget(100 * one, 1.0))
    until(lambda: all(len(family(serving, name)) == 2 for name in "ac"), 20)  # with memory, one stands by again


def test_who_asks_while_an_endpoint_goes_cold_is_answered(serving: Workspace) -> None:
    at = deployed(serving, "ab")
    warmth.allow(serving.endpoints, Budget(1.0, 0.0))  # whoever is not asked this moment goes
    answers: list[tuple[str, object]] = []
    ends = time.monotonic() + 25

    def ask(name: str, pause_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", at[name].port, timeout=30)
        body = json.dumps({"instances": [ROW]}).encode()
        while time.monotonic() < ends:
            try:
                connection.request("POST", "/predict", body, at[name].headers)
                found = json.loads(connection.getresponse().read())["predictions"]
            except Exception as error:  # noqa: BLE001 - every kind of failure counts
                found = repr(error)
            answers.append((name, found))
            connection.close()
            time.sleep(pause_s)

    who = [(name, pause_s) for name in "ab" for pause_s in (1.03, 2.11, 3.07)]
    threads = [threading.Thread(target=ask, args=one) for one in who]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [one for one in answers if one not in (("a", [1.0]), ("b", [2.0]))]
    assert wrong == [] and len(answers) > 20
    went = [deployments.folder(serving, name).log.read_text().count("memory is short") for name in "ab"]
    report(f"{len(answers)} answers, cold {went} times")
    assert sum(went) >= 4


def test_who_is_connected_keeps_an_endpoint_in_memory(serving: Workspace) -> None:
    at = deployed(serving, "a")["a"]
    warmth.allow(serving.endpoints, Budget(1.0, 0.0))
    until(lambda: state_of(serving) == {"a": "cold"}, 20)
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=30)
    ends, answers = time.monotonic() + 4, []
    while time.monotonic() < ends:
        connection.request("POST", "/predict", json.dumps({"instances": [ROW]}).encode(), at.headers)
        answers.append(json.loads(connection.getresponse().read())["predictions"])
    assert deployments.folder(serving, "a").log.read_text().count("memory is short") == 1, "before it was connected"
    assert answers and all(one == [1.0] for one in answers)
    connection.close()
    until(lambda: state_of(serving) == {"a": "cold"}, 20)


def test_a_cold_endpoint_is_deployed_to_stopped_and_started_as_any_other(serving: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (at,) = deployed(serving, "a").values()
    short = Budget(1.0, 0.5)
    other = make_model(serving, constant=7.0, name="A")
    warmth.allow(serving.endpoints, short)
    until(lambda: at.state == "cold", 20)
    assert deploy(other, to="a").predict(ROW) == [7.0]
    warmth.allow(serving.endpoints, short)  # the deploy took that of the settings
    until(lambda: at.state == "cold", 20)
    assert endpoint("a").rollback().predict(ROW) == [1.0]
    warmth.allow(serving.endpoints, short)
    until(lambda: at.state == "cold", 20)
    host = deployments.folder(serving, "a").process()
    assert host is not None
    at.stop()
    assert at.state == "stopped" and not host.alive
    assert at.start().predict(ROW) == [1.0]
    warmth.allow(serving.endpoints, short)
    until(lambda: at.state == "cold", 20)
    host = deployments.folder(serving, "a").process()
    assert host is not None
    os.kill(host.pid, signal.SIGKILL)  # nobody holds the port now, and nobody says that it is ready
    until(lambda: not host.alive, 5)
    assert at.state == "down"
    assert "mlp endpoint a --start" in repr(mlp.status())
    capsys.readouterr()
    assert cli.main(["endpoint", "a", "--start", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "ready"
    assert at.predict(ROW) == [1.0]


def test_a_cold_endpoint_whose_host_is_killed_is_started_again_by_another(serving: Workspace) -> None:
    at = deployed(serving, "ab")
    warmth.allow(serving.endpoints, Budget(1.0, 0.5))
    until(lambda: state_of(serving) == {"a": "cold", "b": "cold"}, 20)
    folder = deployments.folder(serving, "a")
    killed = folder.process()
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: not killed.alive, 5)
    assert at["a"].state == "down"
    until(lambda: folder.running, 10)
    assert at["a"].predict(ROW) == [1.0]
    until(lambda: state_of(serving) == {"a": "cold", "b": "cold"}, 20)


def test_no_endpoint_goes_cold_that_answers_or_tries_a_model(serving: Workspace) -> None:
    at = deploy(make_model(serving, code=SLOW, name="Slow"), to="slow")
    deploy(make_model(serving, constant=1.0), to="tries")
    deploy(make_model(serving, constant=2.0), to="tries", ramp="10,100", every="1h")
    warmth.allow(serving.endpoints, Budget(1.0, 0.5))
    for _ in range(2):
        assert len(at.predict([ROW] * 20)) == 20  # takes six times as long as it must be left alone
    assert deployments.folder(serving, "slow").log.read_text().count("memory is short") <= 1
    until(lambda: state_of(serving) == {"slow": "cold", "tries": "ready"}, 20)
    time.sleep(3)
    assert state_of(serving)["tries"] == "ready"


def test_the_budget_is_that_of_the_settings(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_SERVING_MEMORY", "3GB")
    monkeypatch.setenv("MLP_SERVING_IDLE_S", "120")
    at = deploy(make_model(workspace, constant=1.0), to="delays")
    assert warmth.allowed(workspace.endpoints) == Budget(3 * 2**30, 120.0)
    at.stop()


def test_an_endpoint_of_several_processes_rests_and_wakes_as_one(serving: Workspace) -> None:
    at = deploy(make_model(serving, constant=1.0), to="wide", replicas=2)
    warmth.allow(serving.endpoints, Budget(1.0, 0.5))
    for _ in range(2):
        until(lambda: at.state == "cold", 20)
        assert family(serving, "wide") == []
        with ThreadPoolExecutor(12) as asking:  # so many that both of its sockets are asked
            assert list(asking.map(at.predict, [ROW] * 12)) == [[1.0]] * 12
