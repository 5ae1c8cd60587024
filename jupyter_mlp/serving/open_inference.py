"""The Open Inference Protocol v2: columns in, tensors out, and what models take and give, told in the protocol's words.

A tensor is one column: its shape is [rows], or [rows, 1] where a client has no other. A missing value is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jupyter_mlp.serving.predictor import Prediction, Predictor
from jupyter_mlp.serving.protocols import Asked, Refusal, decoded, encode

_NUMBERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64")
DATATYPES = ("BOOL", *_NUMBERS, "BYTES")
_HOLDS: dict[str, tuple[type, ...]] = {"BOOL": (bool,), "BYTES": (str,), **dict.fromkeys(_NUMBERS, (int, float))}
_OF_KIND = {"number": "FP64", "whole": "INT64", "flag": "BOOL"}  # what else there is comes as text
_OF_VALUE: dict[type, str] = {bool: "BOOL", int: "INT64", float: "FP64"}
_SINGLE = ("float", "halffloat")  # Arrow's names of numbers that FP32 holds
_FORM = 'Send {"inputs": [{"name": "column", "shape": [n], "datatype": "FP64", "data": [...]}]}.'


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decoder = msgspec.json.Decoder(_Request)


def read(body: bytes) -> tuple[Asked, list[str]]:
    """Read a request; every input is one column of the model. Return also the names of the outputs it asks for, none for all.

    Raises:
        Refusal: 422 that names the field.
    """
    found = decoded(_decoder, body, _FORM)
    if not found.inputs:
        raise Refusal(422, "inputs is empty.", "inputs", _FORM)
    length = len(found.inputs[0].data)
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(found.inputs):
        if tensor.name in columns:
            raise Refusal(422, f"The input {tensor.name[:60]} is given twice.", f"inputs[{place}].name", _FORM)
        columns[tensor.name] = _column(tensor, f"inputs[{place}]", length)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    key = found.parameters.get("key")
    return Asked(rows, key if isinstance(key, str | int) else None, found.id), [one.name for one in found.outputs]


def write(found: Prediction, model: str, request_id: str, endpoint: str, wanted: Sequence[str] = ()) -> bytes:
    """Return the answer; the model's UUID is its version.

    Args:
        wanted: the names of the outputs that were asked for, none for all.

    Raises:
        Refusal: 422 that names an output which the model has not.
    """
    outputs = {"predictions": _predictions(found)}
    if found.probabilities is not None:
        outputs["probabilities"] = _tensor("probabilities", list(found.probabilities.shape), "FP64", found.probabilities.ravel().tolist())
    for place, name in enumerate(wanted):
        if name not in outputs:
            hint = f"It has {' and '.join(outputs)}; leave outputs out for all."
            raise Refusal(422, f"The model has no output {name[:60]}.", f"outputs[{place}].name", hint)
    chosen = [one for name, one in outputs.items() if not wanted or name in wanted]
    return encode({"model_name": endpoint, "model_version": model, "id": request_id, "outputs": chosen})


def metadata(predictor: Predictor) -> dict[str, Any]:
    """Return the tensors that a model takes and gives, as the protocol's metadata has them."""
    types = {one["name"]: one.get("type") for one in predictor.card.get("signature", {}).get("inputs", [])}
    inputs = [
        {"name": one.column, "datatype": _datatype(one.kind, types.get(one.column)), "shape": [-1]} for one in predictor.recipe.inputs
    ]
    return {"inputs": inputs, "outputs": _outputs(predictor)}


def _column(tensor: _Tensor, where: str, length: int) -> list[Any]:
    """Return a tensor's values, one a row.

    Raises:
        Refusal: 422 that names the field.
    """
    if tensor.datatype not in _HOLDS:
        hint = f"Name one of {', '.join(DATATYPES)}."
        raise Refusal(422, f"The datatype of {tensor.name[:60]} is {tensor.datatype[:20]!r}.", f"{where}.datatype", hint)
    values = tensor.data
    if tensor.shape == [length, 1] and all(type(value) is list and len(value) == 1 for value in values):
        values = [value[0] for value in values]  # nested as the shape says, which the protocol allows
    if tensor.shape not in ([length], [length, 1]) or len(values) != length or not length:
        said = f"The input {tensor.name[:60]} has shape {str(tensor.shape)[:100]} and {len(values)} values."
        raise Refusal(422, said, f"{where}.shape", _FORM)
    fits = _HOLDS[tensor.datatype]
    for row, value in enumerate(values):
        if value is not None and type(value) not in fits:
            raise Refusal(
                422, f"{where}.data[{row}] is no {tensor.datatype}.", f"{where}.data[{row}]", "Send what the datatype says, or null."
            )
    return values


def _predictions(found: Prediction) -> dict[str, Any]:
    if isinstance(found.values[0], list):  # several numbers a row
        return _tensor("predictions", list(found.scores.shape), "FP64", found.scores.ravel().tolist())
    return _tensor("predictions", [len(found.values)], _of(found.values), found.values)


def _tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _outputs(predictor: Predictor) -> list[dict[str, Any]]:
    if predictor.task not in ("binary", "multiclass"):
        return [{"name": "predictions", "datatype": "FP64", "shape": [-1, *predictor.shape]}]
    classes = predictor.classes
    labels = {"name": "predictions", "datatype": _of(classes or [0]), "shape": [-1]}
    width = [] if predictor.task == "binary" else [len(classes) if classes else -1]
    return [labels, {"name": "probabilities", "datatype": "FP64", "shape": [-1, *width]}]


def _of(values: Sequence[Any]) -> str:
    return _OF_VALUE.get(type(values[0]), "BYTES")


def _datatype(kind: str, arrow_type: str | None) -> str:
    return "FP32" if kind == "number" and arrow_type in _SINGLE else _OF_KIND.get(kind, "BYTES")
