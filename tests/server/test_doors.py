"""Every route and socket of the server extension is closed to whoever is not known, and says what is wrong to whoever is."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jupyter_servers as jupyter
import pytest

from jupyter_mlp.frontends import handlers
from jupyter_mlp.store import shelf
from jupyter_mlp.store.workspace import Workspace

MADE = {"list": "list/dataset", "verb": "verb/status"}
PATHS = [MADE.get(path.split("/")[0], path) for path in (route[0].removeprefix("/jupyter-mlp/") for route in handlers.routes("/"))]
FOREIGN = "http://evil.example"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
HOSTILE = ("<img src=x onerror=alert(1)>", "'; DROP TABLE things; --", "‮‮abc", "\U0001f600" * 50, "x" * 9_000, "%", "_", "a" * 20_000)

Answer = tuple[int, Any]


class Caller:
    """Asks the server as a script or as a browser does."""

    def __init__(self, server: jupyter.Server) -> None:
        self.server = server
        self.cookies = self._log_in()

    def ask(self, method: str, path: str, body: Any = None, known: str = "token", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if known == "token":
            sent["Authorization"] = f"token {self.server.token}"
        elif known == "cookie":
            sent["Cookie"] = self.cookies
        data = json.dumps(body).encode() if not isinstance(body, bytes | None) else body
        return self._send(method, f"/jupyter-mlp/{path}", data, sent)

    def upgrade(self, known: str = "", **headers: str) -> int:
        sent = {**UPGRADE, **headers, **({"Authorization": f"token {self.server.token}"} if known else {})}
        return self._send("GET", "/jupyter-mlp/changes", None, sent)[0]

    def _log_in(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("GET", f"/?token={self.server.token}")
        answer = connection.getresponse()
        found = [value.split(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]
        answer.read()
        connection.close()
        return "; ".join(found)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if answer.status == 101:
                return 101, None
            data = answer.read()
            try:
                return answer.status, json.loads(data)
            except ValueError:
                return answer.status, data
        finally:
            connection.close()


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    place = tmp_path_factory.mktemp("doors")
    _fill(place / "workspace")
    with jupyter.running(place, app="server") as server:
        yield Caller(server)


def _fill(root: Path) -> None:
    import pandas as pd

    os.environ["MLP_WORKSPACE"] = str(root)
    try:
        import jupyter_mlp as mlp

        mlp.write_table("lake.flights", pd.DataFrame({"carrier": ["UA", "AA"], "dep_delay": [1.5, None]}))
        activities = Workspace(root).activities
        for number in range(70):
            activities.finish(activities.begin("train", name=f"Net{number % 3}"))
        activities.fail(activities.begin("train", name=HOSTILE[0]), HOSTILE[0])
    finally:
        del os.environ["MLP_WORKSPACE"]


def _method(path: str) -> str:
    return "POST" if path.startswith("verb") else "GET"


def test_the_walk_covers_every_route() -> None:
    assert sorted({path.split("/")[0] for path in PATHS}) == sorted(
        "changes clusters difference lineage list log report schedule search starter starters thing traffic verb".split()
    )


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_known_is_refused(caller: Caller, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        assert caller.ask(method, path, known="")[0] in (302, 403, 405), method
        assert caller.ask(method, path, known="", Authorization="token wrong")[0] in (302, 403, 405), method
    assert caller.ask(_method(path), path, known="")[0] == 403
    assert caller.upgrade() == 403


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_host_or_origin_is_refused(caller: Caller, path: str) -> None:
    assert caller.ask(_method(path), path, Host="evil.example")[0] == 403
    if path != "changes":
        status, said = caller.ask(_method(path), path, {}, "cookie", Origin=FOREIGN)
        assert status in (403, 404) and set(said) == {"message", "hint"}  # jupyter_server says 404 to a foreign page
    assert caller.upgrade("token", Host="evil.example") == 403
    assert caller.upgrade("", Origin=FOREIGN, Cookie=caller.cookies) == 403


def test_a_browser_needs_the_token_against_forged_requests(caller: Caller) -> None:
    own = caller.server.url.rstrip("/")
    assert urlsplit(own).port == caller.server.port
    assert caller.ask("POST", "verb/status", {}, "cookie", Origin=own)[0] == 403
    forged = re.search(r"_xsrf=([^;]+)", caller.cookies)
    if forged:
        status, said = caller.ask("POST", "verb/status", {}, "cookie", Origin=own, X_XSRFToken=forged[1])
        assert status == 200, said
    assert caller.ask("POST", "verb/status", {}, "token")[0] == 200


def test_only_snapshots_are_compared(caller: Caller) -> None:
    status, said = caller.ask("GET", "difference?before=dataset:trips&after=snapshot:abc")
    assert (status, said["message"]) == (400, "dataset:trips is no snapshot.")
    assert caller.ask("GET", "difference?before=snapshot:abc&after=snapshot:../../etc/passwd")[0] in (400, 404)
    assert caller.ask("GET", "difference?before=snapshot:abc")[0] == 400


def test_a_value_that_looks_like_an_option_is_a_value(caller: Caller) -> None:
    assert caller.ask("POST", "verb/impact", {"what": "--help"}, "token")[0] == 400


def test_who_is_known_gets_the_socket(caller: Caller) -> None:
    assert caller.upgrade("token") == 101


def test_pages_hold_everything_once_newest_first(caller: Caller) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        status, page = caller.ask("GET", f"list/run?limit=20&cursor={cursor}")
        assert status == 200
        seen += [row["ref"] for row in page["rows"]]
        cursor = page["next"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 71


def test_search_finds_by_the_beginning_of_words(caller: Caller) -> None:
    assert [row["name"] for row in caller.ask("GET", "search?text=fli")[1]["rows"]] == ["lake.flights"]
    assert {row["title"] for row in caller.ask("GET", "search?text=net1&kind=run&limit=50")[1]["rows"]} == {"Net1"}
    assert caller.ask("GET", "search?text=lights")[1]["rows"] == []


def test_a_table_is_told_in_detail(caller: Caller) -> None:
    status, thing = caller.ask("GET", "thing?ref=table:lake.flights")
    assert status == 200
    assert thing["details"]["preview"]["first"] == [["UA", 1.5], ["AA", None]]
    assert caller.ask("GET", f"lineage?ref={thing['ref']}")[1]["by"]["verb"] == "table"


@pytest.mark.parametrize(
    "path",
    ["list/nothing", "thing?ref=dataset:none", "thing?ref=x", "thing", "list/run?limit=0", "list/run?cursor=x", "list/run?limit=99999",
     "log?ref=dataset:x", "log?ref=run:../../etc", "report?ref=report:x", "traffic?name=../x", "lineage?ref=endpoint:../../x"],
)  # fmt: skip
def test_what_cannot_be_answered_is_said_in_two_lines(caller: Caller, path: str) -> None:
    status, said = caller.ask("GET", path)
    assert status in (400, 404)
    assert said["message"] and said["hint"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_breaks_a_route(caller: Caller, text: str) -> None:
    from urllib.parse import quote

    for path in PATHS:
        if path != "changes":
            for name in ("text", "ref", "name", "cursor", "kind", "limit"):
                assert caller.ask(_method(path), f"{path.split('?')[0]}?{name}={quote(text)}", {"ref": text})[0] < 500


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"ref": "\\ud800"}', b'{"a": [1]}', b"\xff", b'{"run": "run:x", "wait": true}', b"[" * 9000]
)
def test_no_body_breaks_a_verb(caller: Caller, body: bytes) -> None:
    for verb in ("status", "attach", "deploy", "endpoint", "train", "run", "nothing"):
        status, said = caller.ask("POST", f"verb/{verb}", body)
        assert status in (200, 400, 404), (verb, said)


def test_verbs_that_read_files_are_not_here(caller: Caller) -> None:
    for verb in ("table", "data", "train", "run", "snapshot", "pipeline", "verify", "gc"):
        assert caller.ask("POST", f"verb/{verb}", {})[0] == 404
    assert caller.ask("POST", "verb/attach", {"run": "run:x", "wait": True})[0] == 400


def test_markup_is_only_ever_json(caller: Caller) -> None:
    row = caller.ask("GET", "list/run?limit=1")[1]["rows"][0]
    assert row["title"] == HOSTILE[0] and row["error"] == HOSTILE[0]


def test_every_listed_kind_has_its_list(caller: Caller) -> None:
    assert {caller.ask("GET", f"list/{kind}")[0] for kind in shelf.KINDS} == {200}
