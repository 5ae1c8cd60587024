"""What requests hold, as typed structures, and how they are refused; KServe v1: rows in, predictions out."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

import msgspec

from jupyter_mlp.serving.lookups import Found
from jupyter_mlp.serving.predictor import Prediction

T = TypeVar("T")
MOST_KEYS = 10_000  # of one request


class Refusal(Exception):
    """An answer that is no prediction: an HTTP status, what is wrong, and where."""

    def __init__(self, status: int, message: str, field: str = "", hint: str = "", model: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.model = model  # the one that failed, where it was the model
        self.body = {"error": message, **({"field": field} if field else {}), **({"hint": hint} if hint else {})}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """KServe v1: `{"instances": [{...}]}`; `key` keeps a caller on one variant, `id` comes back in the answer.

    Where predictions are published by key, `{"keys": [...]}` asks for those instead.
    """

    instances: list[dict[str, Any]] = []
    key: str | int | None = None
    id: str | None = None
    keys: list[str | int] | None = None


class Happened(msgspec.Struct, forbid_unknown_fields=True):
    """What happened to one thing that was predicted: the id of its answer (of its row: id/0, id/1 ...) and the true value."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=160)]
    value: bool | int | float | str


class _Outcomes(msgspec.Struct, forbid_unknown_fields=True):
    outcomes: list[Happened]


_v1 = msgspec.json.Decoder(Asked)
_outcomes = msgspec.json.Decoder(_Outcomes)
_encoder = msgspec.json.Encoder()
_FORM = 'Send {"instances": [{"column": value, ...}]}.'
_FORM_KEYS = 'Send {"keys": ["a key", ...]}.'
_FORM_OUTCOMES = 'Send {"outcomes": [{"id": "the id of the answer", "value": 12.5}]}.'


def read_v1(body: bytes) -> Asked:
    """Read a v1 request.

    Raises:
        Refusal: 422 that names the field.
    """
    asked = decoded(_v1, body, _FORM)
    if asked.keys is not None:
        if asked.instances:
            raise Refusal(422, "Both instances and keys were given.", "keys", "Send one of them.")
        if not 0 < len(asked.keys) <= MOST_KEYS:
            raise Refusal(422, f"There are {len(asked.keys):,} keys; 1 to {MOST_KEYS:,} are answered at once.", "keys", _FORM_KEYS)
        return asked
    if not asked.instances:
        raise Refusal(422, "instances is empty.", "instances", _FORM)
    return asked


def read_outcomes(body: bytes) -> list[Happened]:
    """Read what happened: `{"outcomes": [{"id": ..., "value": ...}]}`."""
    found = decoded(_outcomes, body, _FORM_OUTCOMES).outcomes
    for place, one in enumerate(found):
        if isinstance(one.value, int) and abs(one.value) > 1e300:
            raise Refusal(422, f"outcomes[{place}].value is out of range.", f"outcomes[{place}].value", _FORM_OUTCOMES)
    return found


def write_v1(found: Prediction, model: str, request_id: str) -> bytes:
    """Return a v1 answer; classifiers add the probabilities."""
    answer: dict[str, Any] = {"predictions": found.values, "model": model, "id": request_id}
    if found.probabilities is not None:
        answer["probabilities"] = found.probabilities.tolist()
    return _encoder.encode(answer)


def write_kept(found: Found, model: str, request_id: str) -> bytes:
    """Return the answer to keys; unknown ones have null and are named as missing."""
    answer: dict[str, Any] = {"predictions": found.predictions, "model": model, "id": request_id, "missing": found.missing}
    if found.probabilities is not None:
        answer["probabilities"] = found.probabilities
    return _encoder.encode(answer)


def encode(value: Any) -> bytes:
    """Return a value as JSON."""
    return _encoder.encode(value)


def decoded(decoder: msgspec.json.Decoder[T], body: bytes, form: str) -> T:
    """Return a body as its decoder reads it.

    Args:
        form: says what to send instead.

    Raises:
        Refusal: 422 that names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        raise Refusal(422, text + ".", _place(text), form) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        field = _not_a_number(body)
        if field:
            raise Refusal(422, f"{field} is NaN or infinite; JSON has no such number.", field, "Send null for a missing value.") from None
        raise Refusal(422, f"The body is not valid JSON: {error}", "body", form) from None


def _place(text: str) -> str:
    """Return the field that msgspec's sentence is about: a path, or the name of a missing or unknown one."""
    path = re.search(r"`\$\.?([^`]*)`$", text)
    name = re.search(r"field `([^`]*)`", text)
    return ".".join(found[1] for found in (path, name) if found and found[1]) or "body"


def _not_a_number(body: bytes) -> str:
    """Return the path of the first NaN or Infinity in a body that is JSON but for those."""
    mark = object()
    try:
        value = json.loads(body, parse_constant=lambda _: mark)
    except (ValueError, RecursionError):
        return ""
    todo: list[tuple[str, Any]] = [("", value)]
    while todo:
        path, one = todo.pop()
        if one is mark:
            return path
        if isinstance(one, dict):
            todo += [(f"{path}.{key}".lstrip("."), inner) for key, inner in one.items()]
        elif isinstance(one, list):
            todo += [(f"{path}[{i}]", inner) for i, inner in enumerate(one)]
    return ""
