"""What systemd and KServe are told runs the endpoint: the very command in it is started here, and asked."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from models import make_model

from jupyter_mlp.core.errors import NotFoundError
from jupyter_mlp.deployment import deploy
from jupyter_mlp.serving import places
from jupyter_mlp.store import deployments
from jupyter_mlp.store.workspace import Workspace

ROOT = Path(__file__).parents[2]
ROW = {"dep_delay": 4.0, "carrier": "UA"}


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    yield workspace
    places.stop_all(workspace)


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def asked(port: int, name: str, token: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", f"/v1/models/{name}:predict", json.dumps({"instances": [ROW]}), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def unit_words(text: str, key: str) -> list[str]:
    """A line of a unit as systemd splits it."""
    line = re.search(rf"^{key}=(.*)$", text, re.MULTILINE)
    assert line
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line[1])]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(serving: Workspace, tmp_path: Path) -> None:
    at = deploy(make_model(serving), to="lines")
    path = tmp_path / "mlp-lines.service"
    path.write_text(at.manifest("systemd").text)
    told = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}  # without one it verifies nothing
    done = subprocess.run(["systemd-analyze", "verify", "--user", str(path)], capture_output=True, text=True, env=told)
    assert done.returncode == 0 and "mlp-lines" not in done.stderr, done.stderr


def test_the_units_command_takes_over_when_the_host_is_lost(serving: Workspace, tmp_path: Path) -> None:
    first, second = make_model(serving), make_model(serving, constant=7.0)
    at = deploy(first, to="lines")
    unit = at.manifest("systemd").text
    environment = dict(word.split("=", 1) for word in unit_words(unit, "Environment"))
    started = subprocess.Popen(unit_words(unit, "ExecStart"), env={"PATH": os.environ["PATH"], **environment}, cwd=tmp_path)
    try:
        with pytest.raises(subprocess.TimeoutExpired):  # another host serves: it waits
            started.wait(6)
        deploy(second, to="lines")  # the unit serves what was deployed last, not what was there when it was written
        host = deployments.folder(serving, "lines").process()
        assert host is not None and host.pid != started.pid
        for process in [psutil.Process(host.pid), *psutil.Process(host.pid).children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        until(lambda: at.state == "ready" and deployments.folder(serving, "lines").process().pid == started.pid)  # type: ignore[union-attr]
        status, answer = asked(at.port, "lines", serving_token(serving))
        assert (status, answer["model"], answer["predictions"]) == (200, second, [7.0])
        at.stop()
        assert started.wait(15) == 0, "a unit that was stopped by its owner is not started again: Restart=on-failure"
    finally:
        started.kill()


def serving_token(workspace: Workspace) -> str:
    return deployments.folder(workspace, "lines").token()


def test_the_inference_service_runs_the_same_variants(serving: Workspace, tmp_path: Path) -> None:
    """Its fields are those of serving.kserve.io/v1beta1's schema in KServe 0.20; a cluster refuses others."""
    first, second = make_model(serving), make_model(serving, constant=7.0)
    deploy(first, to="late_lines")
    at = deploy(second, to="late_lines", traffic=40)
    found = yaml.safe_load(at.manifest("kserve").text)
    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
        "late-lines",
    )
    assert found["metadata"]["annotations"]["jupyter-mlp.org/endpoint"] == at.ref
    predictor = found["spec"]["predictor"]
    assert set(predictor) == {"minReplicas", "containers", "volumes"}
    container = predictor["containers"][0]
    assert set(container) == {"name", "image", "command", "args", "env", "ports", "readinessProbe", "volumeMounts"}
    assert container["name"] == "kserve-container" and container["volumeMounts"][0]["mountPath"] == str(serving.root)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, *container["command"][1:], *(str(port) if word == "8080" else word for word in container["args"])]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    refused = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "MLP_ENDPOINT_TOKEN is not set" in refused.stderr
    started = subprocess.Popen(words, env={**environment, container["env"][0]["name"]: "a secret of ours"}, cwd=tmp_path)
    try:
        until(lambda: deployments.answers(f"http://127.0.0.1:{port}"))
        models = [asked(port, "late_lines", "a secret of ours")[1]["model"] for _ in range(60)]
        assert set(models) == {first, second} and 8 < models.count(second) < 40
        assert asked(port, "late_lines", "another one")[0] == 401
        started.terminate()
        assert started.wait(15) == 0
    finally:
        started.kill()


def test_an_unknown_form_names_those_that_are_known(serving: Workspace) -> None:
    at = deploy(make_model(serving), to="lines")
    with pytest.raises(NotFoundError, match="no manifest 'kserv'") as caught:
        at.manifest("kserv")
    assert "kserve" in str(caught.value)
