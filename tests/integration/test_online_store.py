"""Predictions by key: every store does the same, and an endpoint answers from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis_server
from models import make_model, publish, rows_of
from test_serving import ROW, ask

import jupyter_mlp as mlp
from jupyter_mlp.core import plugins
from jupyter_mlp.core.errors import InvalidInputError, JobError, NotFoundError, StorageError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.deployment import deploy, endpoint
from jupyter_mlp.serving import experiment_tables, places
from jupyter_mlp.store.workspace import Workspace

CASSANDRA = os.environ.get("MLP_TEST_CASSANDRA", "")  # cassandra://host/keyspace of a cluster that may be written to
STORES = ("sqlite", "redis", *(["cassandra"] if CASSANDRA else []))


@pytest.fixture(params=STORES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Kind and address of an empty store; the Redis has a password, so that it can be looked for where it must not be."""
    if request.param == "sqlite":
        yield "sqlite", str(tmp_path / "online.db")
        return
    if request.param == "cassandra":
        yield "cassandra", CASSANDRA
        return
    if not redis_server.there():
        pytest.skip(redis_server.LACKS)
    with redis_server.running("hunter2secret") as found:
        yield "redis", found


@pytest.fixture
def serving(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose endpoints end with the test."""
    yield workspace
    places.stop_all(workspace)


def test_a_store_keeps_spaces_apart_and_replaces_them_whole(address: tuple[str, str]) -> None:
    store = plugins.load("stores", address[0])(address[1])
    many = [(f"k{i}", str(i).encode()) for i in range(25_000)]
    store.publish("a", many)
    store.publish("b", [("k1", b"other"), ("é\n'", b"odd"), ("", b"none")])
    assert store.get("a", ["k1", "nothing", "k24999", "k1"]) == [b"1", None, b"24999", b"1"]
    assert store.get("a", [key for key, _ in many[:2000]]) == [value for _, value in many[:2000]]
    assert store.get("b", ["k1", "é\n'", "", "k2"]) == [b"other", b"odd", b"none", None]
    store.publish("a", [("k2", b"new")])
    assert store.get("a", ["k1", "k2"]) == [None, b"new"], "nothing of before is left"

    def broken() -> Iterator[tuple[str, bytes]]:
        yield from many[:15_000]
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        store.publish("a", broken())
    assert store.get("a", ["k1", "k2"]) == [None, b"new"], "all of it or nothing"
    store.publish("empty", [])
    assert store.get("empty", ["", "k1"]) == [None, None]
    store.drop("a")
    store.drop("a")
    assert store.get("a", ["k2"]) == [None] and store.get("b", ["k1"]) == [b"other"]
    other = plugins.load("stores", address[0])(address[1])
    assert other.get("b", ["k1"]) == [b"other"]
    store.close()
    other.close()


def test_a_full_store_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    store = plugins.load("stores", "sqlite")(str(tmp_path / "online.db"))
    store.publish("a", [("k", b"v")])
    store._database.execute("PRAGMA max_page_count = 40")
    with pytest.raises(StorageError, match="full"):
        store.publish("a", [(f"k{i}", b"x" * 100) for i in range(20_000)])
    assert store.get("a", ["k"]) == [b"v"]
    store.publish("a", [("k", b"w")])
    store.close()


def predicted(workspace: Workspace, model: str, name: str = "predictions", task: str = "regression", seed: int = 1) -> Any:
    """Publish rows with an id and let the model predict them."""
    table = rows_of(400, seed=seed, task=task).append_column("flight", pa.array([f"UA {i}" for i in range(400)]))
    publish(
        workspace,
        "trips",
        table.append_column("number", pa.array(range(400))).append_column("twice", pa.array([i // 2 for i in range(400)])),
    )
    return mlp.predict(model, data="trips", into=name)


def test_an_endpoint_answers_keys_from_the_store(serving: Workspace, address: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    if address[0] != "sqlite":
        monkeypatch.setenv("MLP_STORE", address[1])
    model, other = make_model(serving), make_model(serving, constant=2.0)
    made = predicted(serving, model)
    at = deploy(model, to="delays", serve_from="store", data="predictions", key="flight")
    wanted = dict(zip(made.to_arrow()["flight"].to_pylist(), made.to_arrow()["prediction"].to_pylist(), strict=True))
    status, body = ask(at, {"keys": ["UA 7", "nobody", "UA 399"], "id": "mine"})
    assert (status, body["model"], body["id"], body["missing"]) == (200, model, "mine", ["nobody"])
    assert body["predictions"] == [wanted["UA 7"], None, wanted["UA 399"]]
    assert ask(at, {"instances": [ROW]})[0] == 200, "the model answers rows as before"
    assert ask(at, {"keys": ["UA 7"]}, headers={})[0] == 401
    for wrong in ({"keys": []}, {"keys": ["a"] * 10_001}, {"keys": [1.5]}, {"keys": ["a"], "instances": [ROW]}, {"keys": [None]}):
        status, body = ask(at, wrong)
        assert status == 422 and body["field"].startswith("keys"), wrong
    maker = serving.activities.maker(at.reference)
    assert maker is not None and made.reference in maker.used
    newer = deploy(model, to="delays", serve_from="store", data="predictions", key="number")
    assert ask(newer, {"keys": [7, "8", "UA 7"]})[1]["missing"] == ["UA 7"]
    newer.rollback()
    assert ask(at, {"keys": ["UA 7", 7]})[1]["predictions"] == [wanted["UA 7"], None], "the keys of before are back"
    deploy(other, to="delays", traffic=10)
    assert ask(at, {"keys": ["UA 7"]})[0] == 200, "its model is still served"
    gone = deploy(other, to="delays")
    status, body = ask(gone, {"keys": ["UA 7"]})
    assert (status, body["field"]) == (422, "keys") and "serve_from='store'" in body["hint"]
    assert [v.model for v in endpoint("delays").variants] == [other]
    kept = [path for path in serving.root.rglob("*") if path.is_file() and b"hunter2secret" in path.read_bytes()]
    assert kept == [], "the password is stored nowhere"


def test_outcomes_are_joined_to_what_was_asked_by_key(serving: Workspace) -> None:
    model, other = make_model(serving), make_model(serving, constant=2.0)
    predicted(serving, model)
    deploy(model, to="delays", serve_from="store", data="predictions", key="flight")
    at = deploy(other, to="delays", traffic=10)
    said = ask(at, {"keys": ["UA 7", "nobody", "UA 399"], "id": "mine"})[1]["predictions"]
    single = ask(at, {"keys": ["UA 8"]})[1]
    for _ in range(200):
        ask(at, {"keys": ["UA 9"]})
    happened = [{"id": "mine/0", "value": 5.0}, {"id": "mine/2", "value": 6.0}, {"id": single["id"], "value": 7.0}]
    assert ask(at, {"outcomes": happened}, path="/outcomes")[0] == 200
    report = mlp.monitor("delays")
    predictions, outcomes = (
        experiment_tables.read(serving, Ref("table", name, serving.lake.current(name)), columns).to_pylist()
        for name, columns in zip(
            experiment_tables.names("delays"), (["id", "instance", "prediction", "model"], ["id", "value"]), strict=True
        )
    )
    by_id = {row["id"]: row for row in predictions}
    assert "mine/1" not in by_id and len(by_id) == 203, "nothing was predicted for nobody"
    joined = [(json.loads(by_id[row["id"]]["instance"]), by_id[row["id"]]["prediction"], row["value"]) for row in outcomes]
    assert joined == [
        ({"flight": "UA 7"}, said[0], 5.0),
        ({"flight": "UA 399"}, said[2], 6.0),
        ({"flight": "UA 8"}, single["predictions"][0], 7.0),
    ]
    assert {row["model"] for row in predictions} == {model}
    assert not report.verdicts[0].split_wrong and report.verdicts[0].requests == 0, "the store's answers were never split between the two"
    assert report.drift == () or all(one["rows"] == 0 for one in report.drift), "a key is no input of the model"


def test_classes_keep_their_chance_and_a_restart_brings_the_keys_back(serving: Workspace, notebook: Any) -> None:
    model = make_model(serving, task="binary")
    made = predicted(serving, model, task="binary").to_arrow()
    at = notebook.cell("%mlp_deploy Delay --to delays --serve-from store --data predictions --key number")
    answer = ask(at, {"keys": [3]})[1]
    assert (answer["predictions"][0], answer["probabilities"][0]) == (made["prediction"][3].as_py(), made["probability"][3].as_py())
    at.stop()
    again = deploy(model, to="delays", serve_from="store", data="predictions", key="number")
    assert ask(again, {"keys": [3]})[1]["predictions"] == answer["predictions"]


def test_what_cannot_be_published_is_said(serving: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = make_model(serving), make_model(serving, constant=2.0)
    predicted(serving, model)

    def refused(kind: type[Exception], match: str, **given: Any) -> Any:
        with pytest.raises(kind, match=match) as error:
            deploy(given.pop("model", model), to="delays", **{"serve_from": "store", "data": "predictions", "key": "flight", **given})
        return error.value

    assert "--data PREDICTIONS --key COLUMN" in refused(InvalidInputError, "Which predictions", key=None).hint
    assert "--serve-from store" in refused(InvalidInputError, "serve_from is 'shop'", serve_from="shop").hint
    assert "flight" in refused(NotFoundError, "no column fligth", key="fligth").hint
    refused(InvalidInputError, "is no key: 0 is in more than one row", key="twice")
    refused(InvalidInputError, "dep_delay holds double", key="dep_delay")
    assert "%mlp_predict" in refused(InvalidInputError, "no predictions of model", model=other).hint
    refused(InvalidInputError, "no predictions of model", data="trips")
    for address in ("redis://:hunter2secret@127.0.0.1:9/0", "cassandra://anna:hunter2secret@127.0.0.1:9/mlp"):
        monkeypatch.setenv("MLP_STORE", address)
        error = refused(StorageError, "online store does not answer")
        assert "hunter2secret" not in str(error)
    monkeypatch.delenv("MLP_STORE")
    assert isinstance(error, StorageError) and not isinstance(error, JobError)
