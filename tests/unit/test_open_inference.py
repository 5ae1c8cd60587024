"""The Open Inference Protocol v2, asked of real models in this process."""

from __future__ import annotations

import math

import pytest
from in_process import Ask, with_endpoint
from models import make_model

from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store.workspace import Workspace

BELOW = "/v2/models/delays"
INPUTS = [
    {"name": "dep_delay", "shape": [1], "datatype": "FP64", "data": [4.0]},
    {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
]


@pytest.mark.parametrize(
    ("task", "datatype", "shape"), [("regression", "FP64", None), ("binary", "BYTES", [-1]), ("multiclass", "BYTES", [-1, 3])]
)
def test_the_metadata_is_what_is_answered(workspace: Workspace, task: str, datatype: str, shape: list[int] | None) -> None:
    model = make_model(workspace, task=task)
    inputs = [
        {"name": "dep_delay", "shape": [2, 1], "datatype": "FP32", "data": [[4.0], [None]]},
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "AA"]},
    ]

    async def use(ask: Ask) -> None:
        told = (await ask(BELOW)).json
        assert (told["name"], told["versions"], told["platform"]) == ("delays", [model], "jupyter_mlp")
        assert told["inputs"] == [
            {"name": "dep_delay", "datatype": "FP64", "shape": [-1]},
            {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
        ]
        probabilities = [{"name": "probabilities", "datatype": "FP64", "shape": shape}] if shape else []
        assert told["outputs"] == [{"name": "predictions", "datatype": datatype, "shape": [-1]}, *probabilities]
        for path in (f"{BELOW}/infer", f"{BELOW}/versions/{model}/infer"):
            answer = await ask(path, {"inputs": inputs})
            assert (answer.status, answer.json["model_name"], answer.json["model_version"]) == (200, "delays", model)
            for one, said in zip(answer.json["outputs"], told["outputs"], strict=True):
                assert {**one, "shape": [-1, *one["shape"][1:]]} == {**said, "data": one["data"]}
                assert one["shape"][0] == 2 and len(one["data"]) == math.prod(one["shape"])
        assert (await ask(f"{BELOW}/versions/{model}")).json == told

    with_endpoint(workspace, [Variant(model)], use)


def test_all_routes_of_the_protocol_with_and_without_a_version(workspace: Workspace) -> None:
    one, two, shadow = (make_model(workspace, constant=value) for value in (1.0, 2.0, 3.0))

    async def use(ask: Ask) -> None:
        assert (await ask("/v2")).json.keys() == {"name", "version", "extensions"}
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await ask(path, headers={})).json == {"live": True, "ready": True}
        for path in (f"{BELOW}/ready", f"{BELOW}/versions/{two}/ready"):
            assert (await ask(path)).json == {"name": "delays", "ready": True}
            assert (await ask(path, headers={})).status == 401
        assert (await ask(BELOW)).json["versions"] == [one, two]
        for model, value in ((one, 1.0), (two, 2.0)):
            found = [(await ask(f"{BELOW}/versions/{model}/infer", {"inputs": INPUTS})).json for _ in range(10)]
            assert {(answer["model_version"], answer["outputs"][0]["data"][0]) for answer in found} == {(model, value)}
        for unknown in (shadow, "nothing"):  # a shadow answers nobody
            for path, body in (("", None), ("/ready", None), ("/infer", {"inputs": INPUTS})):
                answer = await ask(f"{BELOW}/versions/{unknown}{path}", body)
                assert answer.status == 404 and unknown in answer.json["error"] and one in answer.json["hint"]
        assert (await ask(f"{BELOW}/versions/{one}/explain", {})).status == 404
        answer = await ask(f"{BELOW}/versions/{one}/infer")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")

    with_endpoint(workspace, [Variant(one, 90), Variant(two, 10), Variant(shadow, 0, shadow=True)], use)


def test_a_wrong_tensor_is_named_and_outputs_may_be_chosen(workspace: Workspace) -> None:
    model = make_model(workspace, task="binary")

    async def use(ask: Ask) -> None:
        answer = await ask(f"{BELOW}/infer", {"inputs": INPUTS, "outputs": [{"name": "probabilities"}], "id": "mine"})
        assert [one["name"] for one in answer.json["outputs"]] == ["probabilities"] and answer.json["id"] == "mine"
        for wrong, named in (
            ({"inputs": [{**INPUTS[0], "datatype": "double"}]}, "inputs[0].datatype"),
            ({"inputs": [{**INPUTS[0], "datatype": "BYTES"}]}, "inputs[0].data[0]"),
            ({"inputs": [INPUTS[0], {**INPUTS[1], "shape": [1, 2]}]}, "inputs[1].shape"),
            ({"inputs": INPUTS, "outputs": [{"name": "chances"}]}, "outputs[0].name"),
        ):
            answer = await ask(f"{BELOW}/infer", wrong)
            assert (answer.status, answer.json["field"]) == (422, named) and isinstance(answer.json["error"], str)

    with_endpoint(workspace, [Variant(model)], use)
