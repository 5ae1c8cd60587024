"""What an endpoint says of itself: numbers for Prometheus, an OpenAPI document, a page; and who may read them."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import proof_requests
import pytest
from models import make_model
from prometheus_client.parser import text_string_to_metric_families
from test_serving import ROW, ask

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.deployment import Deployment, deploy
from jupyter_mlp.serving import places
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


def read(at: Deployment, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
    try:
        connection.request(method, path, headers=at.headers if headers is None else headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type") or "", answer.read().decode()
    finally:
        connection.close()


def numbers(at: Deployment) -> dict[str, dict[str, float]]:
    """Samples of /metrics by name, then by model and status."""
    status, kind, text = read(at, "/metrics")
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            label = one.labels.get("model", "") + one.labels.get("status", "") + one.labels.get("le", "")
            found.setdefault(one.name, {})[label + ("shadow" if one.labels.get("shadow") == "true" else "")] = one.value
    return found


def test_metrics_count_every_request_of_every_variant(serving: Workspace) -> None:
    one, two = make_model(serving, constant=1.0), make_model(serving, constant=2.0)
    deploy(one, to="delays")
    at = deploy(two, to="delays", shadow=True)
    for _ in range(7):
        assert ask(at, {"instances": [ROW, ROW]})[0] == 200
    assert ask(at, {"instances": [{}]})[0] == 422
    assert ask(at, {}, headers={})[0] == 401
    found = numbers(at)
    assert found["mlp_requests_total"] == {f"{one}200": 7, f"{two}200shadow": 7, f"{two}422shadow": 1, "422": 1, "401": 1}
    assert found["mlp_rows_total"][one] == 14
    assert found["mlp_request_errors_total"][""] == 2 and found["mlp_request_errors_total"][one] == 0
    assert found["mlp_request_duration_seconds_count"][one] == found["mlp_request_duration_seconds_bucket"][f"{one}+Inf"] == 7
    assert 0 < found["mlp_request_duration_seconds_sum"][one] < 7
    assert found["mlp_variant_weight_percent"] == {one: 100, two: 0}
    assert found["mlp_ready"][""] == 1 and found["process_resident_memory_bytes"][""] > 1e6
    buckets = [value for label, value in found["mlp_request_duration_seconds_bucket"].items() if label.startswith(one)]
    assert buckets == sorted(buckets), "a bucket holds what took so long or less"
    deploy(two, to="delays")
    ask(at, {"instances": [ROW]})
    after = numbers(at)
    assert after["mlp_generation"][""] > found["mlp_generation"][""]
    assert set(after["mlp_variant_weight_percent"]) == {two} and after["mlp_requests_total"][f"{two}200"] == 1


def test_the_document_describes_the_model_and_the_page_loads_nothing(serving: Workspace) -> None:
    at = deploy(make_model(serving, columns=("<b>",)), to="delays")
    document = json.loads(read(at, "/openapi.json")[2])
    assert document["openapi"] == "3.1.0" and document["info"]["version"] == at.variants[0].model
    row = document["components"]["schemas"]["Row"]
    assert set(row["required"]) == {"dep_delay", "carrier", "<b>"} and row["additionalProperties"] is False
    assert row["properties"]["dep_delay"]["type"] == ["number", "null"] and row["properties"]["carrier"]["type"] == ["string", "null"]
    status, kind, page = read(at, "/docs")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page and "<script" not in page and not re.search(r"(src|href)=", page)
    assert "<b>" not in page and "&lt;b&gt;" in page
    asked = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert ask(at, asked)[0] == 200, "the example works as it stands"


def test_pages_are_closed_unless_the_settings_open_them(serving: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(serving)
    at = deploy(model, to="delays")
    pages = ("/metrics", "/openapi.json", "/docs")
    assert [read(at, page, {})[0] for page in pages] == [401] * 3
    token = at.headers["Authorization"].split()[1]
    browser = {"Authorization": "Basic " + base64.b64encode(f"anyone:{token}".encode()).decode()}
    assert [read(at, page, browser)[0] for page in pages] == [200] * 3
    assert ask(at, {"instances": [ROW]}, headers=browser)[0] == 401, "what a browser remembers asks for no predictions"
    wrong = {"Authorization": "Basic " + base64.b64encode(b"anyone:guess").decode()}
    assert [read(at, page, wrong)[0] for page in pages] == [401] * 3
    monkeypatch.setenv("MLP_OPEN_PAGES", "metrics")
    serving.__dict__.pop("settings")  # a kernel reads them once
    deploy(model, to="delays")
    assert [read(at, page, {})[0] for page in pages] == [200, 401, 401]
    assert read(at, "/metrics", {}, "POST")[0] == 401
    monkeypatch.setenv("MLP_OPEN_PAGES", "metrics, everything")
    serving.__dict__.pop("settings")
    with pytest.raises(InvalidInputError, match="'everything', which is no page") as refused:
        deploy(model, to="delays")
    assert 'open_pages = "metrics,openapi"' in refused.value.hint


def test_generated_requests_are_answered_or_refused_by_name(tmp_path: Path, workspace: Workspace) -> None:
    """The short form of `make proof ARGS=requests`."""
    with proof_requests.deployed() as at:
        assert proof_requests.say(proof_requests.prove(at, 300, 7)) == 0


def test_a_wrong_method_is_told_the_right_one(serving: Workspace) -> None:
    at = deploy(make_model(serving), to="delays")
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=20)
    for path, method, allowed in (("/predict", "GET", "POST"), ("/docs", "POST", "GET"), ("/health", "POST", "GET, HEAD")):
        connection.request(method, path, headers=at.headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("allow")) == (405, allowed)
        answer.read()
    connection.close()
