"""What an endpoint takes and gives, as an OpenAPI 3.1 document and as a page for people, both made of the models it serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from shlex import quote
from typing import Any

from jupyter_mlp.core import values
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.serving.arrow_stream import CONTENT_TYPE
from jupyter_mlp.serving.open_inference import DATATYPES
from jupyter_mlp.serving.protocols import MOST_KEYS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
ARROW = CONTENT_TYPE.decode()
_REF = "#/components/schemas/"
_REFUSALS = {
    "401": "The token is missing or wrong.",
    "413": "The body is too large.",
    "422": "A field is missing, unknown, of the wrong type or out of range; `field` names it.",
    "429": "More is waiting than the model can answer soon.",
    "500": "The model failed; the endpoint's log has the details.",
    "503": "No model is loaded, or it does not run.",
}
_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT, "field": _TEXT, "hint": _TEXT, "id": _TEXT},
    "additionalProperties": False,
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
"""


def document(name: str, recipe: Recipe | None, variants: Sequence[Mapping[str, Any]], keys: bool = False, at: str = "") -> Schema:
    """Return the OpenAPI 3.1 document of an endpoint.

    Args:
        recipe: of the model that answers most; None while no model is loaded.
        variants: what `/metadata` says of them. `keys`: whether predictions are published by key.
        at: what callers write before every path.
    """
    predicting = _in_arrow_too(_post("Predict rows", "Asked", "Answered", _example(variants)))
    about = _get("What is served", {"type": "object"})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"endpoint:{name}",
            "version": variants[0]["model"] if variants else "none",
            "description": "Predictions over HTTP, by jupyter_mlp.",
        },
        "security": [{"token": []}],
        **({"servers": [{"url": at}]} if at else {}),
        "paths": {
            f"/v1/models/{name}:predict": {"post": {**predicting, "operationId": "predict"}},
            "/predict": {"post": {**predicting, "operationId": "predict_short", "summary": "The same, for short"}},
            **_v2(name, variants),
            "/outcomes": {"post": _post("Say what really happened", "Happened", "Received", None)},
            "/metadata": {"get": about},
            f"/v1/models/{name}": {"get": about},
            "/metrics": {"get": _get("Numbers for Prometheus", _TEXT, "text/plain")},
            "/openapi.json": {"get": _get("This document", {"type": "object"})},
            "/docs": {"get": _get("This document as a page", _TEXT, "text/html")},
            "/health": {"get": _health("The truth about live and ready; needs no token")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_schemas(recipe, keys), "Error": _ERROR},
        },
    }


def page(document: Mapping[str, Any]) -> str:
    """Return the document as HTML that loads nothing and runs nothing; every text of it is escaped."""
    title = escape(document["info"]["title"])
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{escape(said['summary'])}</td></tr>"
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    )
    row = document["components"]["schemas"]["Row"]
    fields = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(one['description'])}, or null</td></tr>"
        for name, one in row["properties"].items()
    )
    asked = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"].get("example", {"instances": [{}]})
    curl = f"curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n  -d {quote(json.dumps(asked))} \\\n  http://HOST:PORT/predict"
    whole = json.dumps(document, indent=1, ensure_ascii=False)
    head = '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{title}</title><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>Every route but those of health takes the header <code>Authorization: Bearer TOKEN</code>.</p>"
        f"<h2>Routes</h2><table>{rows}</table><h2>Fields of a row</h2><table>{fields}</table>"
        f"<h2>Ask</h2><pre>{escape(curl)}</pre><h2>OpenAPI</h2><pre>{escape(whole)}</pre></body></html>"
    )


def _post(summary: str, asked: str, answered: str, example: Any) -> Schema:
    content: Schema = {"schema": {"$ref": _REF + asked}, **({"example": example} if example else {})}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": _json("Answered.", {"$ref": _REF + answered}),
            **{status: _refused(said) for status, said in _REFUSALS.items()},
        },
    }


def _v2(name: str, variants: Sequence[Mapping[str, Any]]) -> Schema:
    """The paths of the Open Inference Protocol v2."""
    infer = _post("Predict columns (Open Inference Protocol v2)", "AskedV2", "AnsweredV2", None)
    about = _get("What the model takes and gives", {"$ref": _REF + "MetadataV2"})
    ready = _get("Whether the model is ready", _object({"name": _TEXT, "ready": {"type": "boolean"}}, ["name", "ready"]))
    server = _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array"}}, ["name", "version", "extensions"])
    model = f"/v2/models/{name}"
    return {
        "/v2": {"get": _get("What the server is", server)},
        "/v2/health/live": {"get": _health("Whether it lives; needs no token")},
        "/v2/health/ready": {"get": _health("Whether it is ready; needs no token")},
        model: {"get": about},
        f"{model}/ready": {"get": ready},
        f"{model}/infer": {"post": infer},
        f"{model}/versions/{{version}}": {"get": _of_version(about, variants)},
        f"{model}/versions/{{version}}/ready": {"get": _of_version(ready, variants)},
        f"{model}/versions/{{version}}/infer": {"post": _of_version(infer, variants)},
    }


def _of_version(operation: Schema, variants: Sequence[Mapping[str, Any]]) -> Schema:
    """The operation for a model that the caller names."""
    known = [one["model"] for one in variants if not one["shadow"]] or [""]
    named = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "enum": known}}
    responses = {**operation["responses"], "404": _refused("No such model is served.")}
    return {**operation, "summary": f"{operation['summary']}, of one version", "parameters": [named], "responses": responses}


def _in_arrow_too(operation: Schema) -> Schema:
    """The operation with Arrow streams as another form of what it takes and gives."""
    said = "record batches with the columns of Row; `key` and `id` may be metadata of the schema"
    told = "the column predictions, and for classifiers probabilities; `model` and `id` are metadata of the schema"
    body, found = operation["requestBody"], operation["responses"]["200"]
    responses = {
        **operation["responses"],
        "200": {**found, "content": {**found["content"], ARROW: {"schema": {"description": told}}}},
        "400": _refused("The body is no valid Arrow stream."),
    }
    content = {**body["content"], ARROW: {"schema": {"description": said}}}
    return {**operation, "requestBody": {**body, "content": content}, "responses": responses}


def _get(summary: str, schema: Schema, kind: str = "application/json") -> Schema:
    told = {"description": "Answered.", "content": {kind: {"schema": schema}}}
    refused = {status: _refused(_REFUSALS[status]) for status in ("401", "503")}
    return {"summary": summary, "responses": {"200": told, **refused}}


def _health(summary: str) -> Schema:
    schema: Schema = {
        "type": "object",
        "required": ["live", "ready"],
        "properties": {"live": {"type": "boolean"}, "ready": {"type": "boolean"}, "cold": {"type": "boolean"}},
    }
    responses = {"200": _json("A model is loaded, or cold: it loads at the next request.", schema), "503": _json("None is.", schema)}
    return {"summary": summary, "security": [], "responses": responses}


def _json(said: str, schema: Schema) -> Schema:
    return {"description": said, "content": {"application/json": {"schema": schema}}}


def _refused(said: str) -> Schema:
    return _json(said, {"$ref": _REF + "Error"})


def _example(variants: Sequence[Mapping[str, Any]]) -> Any:
    example = variants[0].get("example") if variants else None
    return {"instances": [example]} if example else None


def _schemas(recipe: Recipe | None, keys: bool) -> Schema:
    fields = {one.column: _field(one.kind, one.form) for one in recipe.inputs} if recipe else {}
    answer: Schema = {"type": ["number", "integer", "string", "boolean"]}
    some = {"type": "array", "minItems": 1}
    more: Schema = {
        "key": {"type": ["string", "integer", "null"], "description": "keeps a caller on one variant"},
        "id": {"type": ["string", "null"], "description": "comes back in the answer"},
    }
    by_key = {**some, "items": {"type": ["string", "integer"]}, "maxItems": MOST_KEYS}
    rows = _object({"instances": {**some, "items": {"$ref": _REF + "Row"}}, **more}, ["instances"])
    answered = {"predictions": {"type": "array", "items": answer}, "model": _TEXT, "id": _TEXT, "probabilities": {"type": "array"}}
    if keys:  # an unknown key has no answer
        answered |= {"predictions": {"type": "array"}, "missing": {"type": "array"}}
    described = {"type": "array", "items": _tensor()}
    return {
        "Row": _object(fields, list(fields)),
        "Asked": {"oneOf": [rows, _object({"keys": by_key, **more}, ["keys"])]} if keys else rows,
        "Answered": _object(answered, ["predictions", "model", "id"]),
        "AskedV2": _object(
            {
                "inputs": {**some, "items": {"$ref": _REF + "Tensor"}, "description": "one tensor a column"},
                "id": {"type": ["string", "null"]},
                "parameters": {"type": "object"},
                "outputs": {"type": "array", "items": {"$ref": _REF + "Output"}, "description": "those to answer with; all when left out"},
            },
            ["inputs"],
        ),
        "Output": _object(
            {"name": {"type": "string", "enum": ["predictions", "probabilities"]}, "parameters": {"type": "object"}}, ["name"]
        ),
        "Tensor": _object(
            {
                "name": {"type": "string", "enum": list(fields) or [""]},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
                "datatype": {"type": "string", "enum": list(DATATYPES)},
                "data": some,
                "parameters": {"type": "object"},
            },
            ["name", "shape", "datatype", "data"],
        ),
        "AnsweredV2": _object(
            {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": {"type": "array", "items": _tensor("data")}},
            ["model_name", "model_version", "id", "outputs"],
        ),
        "MetadataV2": _object(
            {"name": _TEXT, "versions": {"type": "array", "items": _TEXT}, "platform": _TEXT, "inputs": described, "outputs": described},
            ["name", "versions", "platform", "inputs", "outputs"],
        ),
        "Happened": _object({"outcomes": {"type": "array", "items": {"$ref": _REF + "Outcome"}}}, ["outcomes"]),
        "Outcome": _object(
            {"id": {"type": "string", "minLength": 1, "maxLength": 160}, "value": {"type": ["boolean", "number", "string"]}},
            ["id", "value"],
        ),
        "Received": _object({"received": {"type": "integer"}, "id": _TEXT}, ["received", "id"]),
    }


def _tensor(*more: str) -> Schema:
    """A tensor as it is told of, or with its data."""
    shape = {"type": "array", "items": {"type": "integer"}}
    told = {"name": _TEXT, "shape": shape, "datatype": {"type": "string", "enum": list(DATATYPES)}}
    return _object({**told, **{name: {"type": "array"} for name in more}}, [*told, *more])


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _field(kind: str, form: str) -> Schema:
    found: Schema = {"description": values.WANTS[kind]}
    if kind in ("number", "whole"):
        whole = form == "key"  # read as a category: 3 is one, 3.5 is none
        return {**found, "type": ["integer" if whole else "number", "null"], "minimum": -values.LARGEST, "maximum": values.LARGEST}
    if kind == "flag":
        return {**found, "type": ["boolean", "null"]}
    if kind == "bytes":
        return {**found, "type": ["string", "null"], "contentEncoding": "base64"}
    formats = {"date": "date", "time": "date-time", "instant": "date-time"}
    return {**found, "type": ["string", "null"], **({"format": formats[kind]} if kind in formats else {})}
