"""The schedule form over HTTP: which notebook it is the server knows by its session, and each mistake stands at its field."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_servers as jupyter
import nbformat
import pytest

pytestmark = pytest.mark.timeout(240)

GOOD = {"name": "nightly", "cron": "0 3 * * *", "tz": "Europe/Zurich", "retries": "2", "timeout": "2h", "parameters.month": "3"}


class Caller:
    """A script that knows the token."""

    def __init__(self, server: jupyter.Server) -> None:
        self.server = server
        self.session = ""

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/{path}", data, {"Authorization": f"token {self.server.token}"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(text or b"null")
        except ValueError:
            return answer.status, text

    def form(self, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", "jupyter-mlp/schedule", {"session": self.session, **fields})


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    place = tmp_path_factory.mktemp("schedule")
    declares = nbformat.v4.new_code_cell("month: int = 1\ncity: str = 'Bern'\nfull = False", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[declares, nbformat.v4.new_code_cell("print('month', month)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / "nightly.ipynb")
    (place / "outside.ipynb").write_text(nbformat.writes(notebook))
    with jupyter.running(place, app="server") as server:
        found = Caller(server)
        found.session = _session(found, "nightly.ipynb")
        yield found
        _stop_scheduler(server.workspace)


def _session(caller: Caller, path: str) -> str:
    status, made = caller.ask("POST", "api/sessions", {"path": path, "type": "notebook", "name": "", "kernel": {"name": "python3"}})
    assert status == 201
    return str(made["id"])


def _stop_scheduler(workspace: Path) -> None:
    """End this workspace's scheduler, and only that."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, told = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"jupyter_mlp.scheduler" in command and f"MLP_WORKSPACE={workspace}\0".encode() in told:
            os.kill(int(entry.name), 15)


def test_the_form_has_the_typed_parameters(caller: Caller) -> None:
    status, form = caller.ask("GET", f"jupyter-mlp/schedule?session={caller.session}")
    assert status == 200 and form["name"] == "nightly" and not form["exists"]
    assert [(one["name"], one["type"], one["default"]) for one in form["parameters"]] == [
        ("month", "int", "1"),
        ("city", "str", "Bern"),
        ("full", "bool", "False"),
    ]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("cron", "0 3 * *", "4 fields"),
        ("cron", "", "0 fields"),
        ("cron", "0 0 31 2 *", "day-of-month"),
        ("tz", "Europe/Zuerich", "Europe/Zurich"),
        ("name", "../../etc", "no name"),
        ("retries", "-1", "whole number"),
        ("timeout", "soon", "no time"),
        ("notify", "mailto:", "Nobody"),
        ("parameters.month", "three", "month"),
        ("parameters.moth", "3", "month"),
        ("on", "lake.nothing", "no table"),
    ],
)
def test_a_mistake_stands_at_its_field(caller: Caller, field: str, value: str, says: str) -> None:
    status, checked = caller.form(**{**GOOD, field: value}, check=True)
    assert status == 200 and list(checked["fields"]) == [field] and says in checked["fields"][field]
    status, refused = caller.form(**{**GOOD, field: value})
    assert status == 400 and list(refused["fields"]) == [field]
    assert caller.ask("GET", "jupyter-mlp/list/schedule")[1]["rows"] == []


def test_no_path_and_no_foreign_session_is_taken(caller: Caller) -> None:
    for session in ("", "nothing", "../nightly.ipynb", str(caller.server.folder / "nightly.ipynb")):
        assert caller.ask("POST", "jupyter-mlp/schedule", {**GOOD, "session": session})[0] == 404
    assert caller.form(**GOOD, notebook="nightly.ipynb")[0] == 400
    outside = _session(caller, "other.ipynb")
    assert caller.ask("PATCH", f"api/sessions/{outside}", {"path": "../outside.ipynb"})[0] == 200
    assert caller.ask("POST", "jupyter-mlp/schedule", {**GOOD, "session": outside})[0] == 404


def test_a_schedule_is_made_run_paused_and_resumed(caller: Caller) -> None:
    status, checked = caller.form(**GOOD, check=True)
    assert status == 200 and checked["fields"] == {} and len(checked["next"]) == 3 and "T03:00" in checked["next"][0]
    status, made = caller.form(**GOOD)
    assert status == 200 and made["parameters"] == {"month": 3} and made["retries"] == 2 and made["timeout_s"] == 7200
    assert _row(caller)["state"] == "active" and _row(caller)["coming"] > time.time()
    assert caller.ask("POST", "jupyter-mlp/verb/schedules", {"name": "nightly", "pause": True})[0] == 200
    assert _row(caller)["state"] == "paused" and _row(caller)["coming"] is None
    assert caller.ask("POST", "jupyter-mlp/verb/schedules", {"name": "nightly", "run": True})[0] == 200  # a paused one, too
    tick = _ended(caller)
    assert tick["state"] == "finished" and tick["tick"].startswith("asked "), tick
    status, page = caller.ask("GET", f"jupyter-mlp/report?ref={tick['run']}")
    assert status == 200 and b"month 3" in page
    assert caller.ask("POST", "jupyter-mlp/verb/schedules", {"name": "nightly", "resume": True})[0] == 200
    assert _row(caller)["state"] == "active"
    form = caller.ask("GET", f"jupyter-mlp/schedule?session={caller.session}")[1]
    assert form["exists"] and form["retries"] == "2" and form["timeout"] == "2h" and form["parameters"][0]["value"] == "3"
    assert [row["name"] for row in caller.ask("GET", "jupyter-mlp/search?text=nigh&kind=schedule")[1]["rows"]] == ["nightly"]


def _row(caller: Caller) -> dict[str, Any]:
    rows = caller.ask("GET", "jupyter-mlp/list/schedule")[1]["rows"]
    assert [row["name"] for row in rows] == ["nightly"]
    return dict(rows[0])


def _ended(caller: Caller) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ticks = _row(caller)["ticks"]
        if ticks and ticks[0]["state"] in ("finished", "failed"):
            return dict(ticks[0])
        time.sleep(0.3)
    raise AssertionError(f"It did not end: {_row(caller)}")
