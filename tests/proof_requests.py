"""Ten thousand generated requests to an endpoint: none fails it, none hangs, and what is refused is told which field.

generated   by schemathesis from the endpoint's own OpenAPI document: half of them fit it, half break it somewhere
hostile     bodies that no generator of JSON makes: cut off, NaN, deep, too large, compressed, bytes that are no text
arrow       streams of record batches with bits turned, lengths that are huge, pieces missing; and whole ones between them
closed      every route, with every method, without the token and with wrong ones
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import requests

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from arrow_bytes import KIND, broken, stream
from models import publish, register_module

LONGEST_S = 10.0
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class Seen:
    """What came back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.slowest_s = 0.0

    def add(self, method: str, path: str, body: Any, answer: requests.Response) -> None:
        """Count an answer; a failure of the server, and a refusal without a word or a field, is wrong."""
        self.statuses[answer.status_code] += 1
        self.slowest_s = max(self.slowest_s, answer.elapsed.total_seconds())
        if answer.status_code < 400:
            return
        try:
            told = answer.json()
        except ValueError:
            told = {}
        unnamed = answer.status_code in (400, 413, 422) and not told.get("field")
        if answer.status_code >= 500 or not told.get("error") or unnamed:
            self.wrong.append(f"{answer.status_code} {method} {path} {str(body)[:200]} -> {answer.text[:200]}")


def main() -> int:
    """Send the requests and say what came back; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        with deployed() as at:
            return say(prove(at, given.requests, given.seed))


def say(seen: Seen) -> int:
    """Print the figures; 1 when one is missed."""
    counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.statuses.items()))
    print(f"{sum(seen.statuses.values()):,} requests: {counts}; the slowest answer took {seen.slowest_s * 1000:,.0f} ms")
    print("\n".join(seen.wrong[:20]) or "no status 5xx, no hang; every refusal says why, every 400, 413 and 422 names the field")
    return int(bool(seen.wrong) or not all(seen.statuses[status] for status in (200, 400, 401, 413, 422)))


@contextmanager
def deployed() -> Iterator[Any]:
    """An endpoint whose model reads a column of every kind but pictures, and that answers keys from a store."""
    import torch

    import jupyter_mlp as mlp
    from jupyter_mlp.store.workspace import current

    chooser = np.random.default_rng(1)
    day = datetime.datetime(2013, 1, 1)
    moments = [day + datetime.timedelta(hours=int(hours)) for hours in chooser.integers(0, 9000, 400)]
    table = pa.table(
        {
            "number": chooser.normal(0, 5, 400),
            "whole": chooser.integers(0, 50, 400),
            "flag": chooser.random(400) < 0.5,
            "text": chooser.choice(["UA", "AA", "DL"], 400),
            "date": pa.array([moment.date() for moment in moments]),
            "time": pa.array(moments, pa.timestamp("us")),
            "instant": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "target": chooser.normal(0, 5, 400),
        }
    )
    model = register_module(current(), table, lambda recipe: torch.nn.Sequential(torch.nn.Linear(recipe.width, 1), torch.nn.Flatten(0)))
    publish(current(), "rows", table.append_column("id", pa.array(range(400))))
    mlp.predict(model, data="rows", into="made", keep="id")
    at = mlp.deploy(model, to="kinds", serve_from="store", data="made", key="id")
    try:
        yield at
    finally:
        at.stop()


def prove(at: Any, count: int, seed: int) -> Seen:
    """Send `count` generated and hostile requests, and then to every route some without its token."""
    seen = Seen()
    base = f"http://127.0.0.1:{at.port}"
    with requests.Session() as session:
        session.headers.update(at.headers)
        document = session.get(f"{base}/openapi.json", timeout=LONGEST_S).json()
        hostile = max(20, count // 10)
        _generated(_in_json(document), base, session, count - 2 * hostile, seed, seen)
        _hostile(document, base, session, hostile, seed, seen)
        _arrow(document, base, session, hostile, seed, seen)
    _closed(document, base, seen)
    return seen


def _generated(document: dict[str, Any], base: str, session: requests.Session, count: int, seed: int, seen: Seen) -> None:
    import schemathesis
    from schemathesis.generation import GenerationMode

    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    posts = [one for one in operations if one.method.upper() == "POST"]
    plans = [(one, GenerationMode.POSITIVE, 1) for one in operations if one not in posts]
    each = -(-(count - len(plans)) // (2 * len(posts)))
    plans += [(one, mode, each) for one in posts for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    for operation, mode, times in plans:
        begun, wanted = sum(seen.statuses.values()), sum(seen.statuses.values()) + times
        for again in range(50):  # one run of a generator ends early where it finds nothing new
            left = wanted - sum(seen.statuses.values())
            if left > 0:
                _asked(operation.as_strategy(mode), left, seed + again, base, session, seen)
        assert sum(seen.statuses.values()) >= begun + times, f"{operation.label}: the generator ended early"


def _in_json(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the forms that no generator of JSON makes."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    for one in (one for methods in found["paths"].values() for one in methods.values() if "requestBody" in one):
        one["requestBody"]["content"].pop(KIND, None)
    return found


def _asked(cases: Any, count: int, seed: int, base: str, session: requests.Session, seen: Seen) -> None:
    """Send what one run of a generator gives."""
    import hypothesis
    from schemathesis.core.failures import FailureGroup

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=cases)
    def ask(case: Any) -> None:
        answer = case.call(base_url=base, session=session, timeout=LONGEST_S)
        seen.add(case.method, case.path, case.body, requests_form(answer))
        try:
            case.validate_response(answer, checks=_checks(case.path))
        except FailureGroup as wrong:
            seen.wrong.append(f"{case.method} {case.path} {str(case.body)[:200]}: {str(wrong)[:600]}")

    ask()


def requests_form(answer: Any) -> requests.Response:
    """What schemathesis wraps, as `requests` gave it."""
    found = requests.Response()
    found.status_code, found._content = answer.status_code, answer.content
    found.elapsed = datetime.timedelta(seconds=answer.elapsed)
    return found


def _checks(path: str) -> list[Any]:
    """What must hold of an answer; a document cannot say that the tensors of v2 must make up a whole row, so there good ones are few."""
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as of_openapi

    names = ("status_code_conformance", "content_type_conformance", "response_schema_conformance", "negative_data_rejection")
    names += () if path.startswith("/v2") else ("positive_data_acceptance",)
    return [checks.not_a_server_error, *(getattr(of_openapi, name) for name in names)]


def _hostile(document: dict[str, Any], base: str, session: requests.Session, count: int, seed: int, seen: Seen) -> None:
    chooser = random.Random(seed)
    posts = [path for path, methods in document["paths"].items() if "post" in methods]
    good = json.dumps(document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]).encode()
    for number in range(count):
        path = chooser.choice(posts)
        body, headers = _bad(good, chooser, large=number in (0, 1))
        answer = session.post(base + path, data=body, headers=headers, timeout=LONGEST_S)
        seen.add("POST", path, body[:200], answer)
        if answer.status_code < 400 and body != good:
            seen.wrong.append(f"{answer.status_code} for {body[:200]!r} at {path}")


def _arrow(document: dict[str, Any], base: str, session: requests.Session, count: int, seed: int, seen: Seen) -> None:
    """Send streams that are broken in every way; a whole one is answered after each tenth, in its own form and in JSON."""
    chooser = random.Random(seed)
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]["instances"][0]
    of = {"date": pa.date32(), "time": pa.timestamp("us"), "instant": pa.timestamp("us", tz="UTC")}
    values = {name: datetime.datetime.fromisoformat(value) if name in of else value for name, value in example.items()}
    columns = {name: pa.array([value] * 40, of.get(name)) for name, value in values.items()}
    rows = pa.table({**columns, "text": columns["text"].dictionary_encode()})
    good = [stream(rows), stream(rows, rows=7)]
    for number in range(count):
        whole = number % 10 == 0
        body = chooser.choice(good) if whole else broken(chooser.choice(good), chooser)
        headers = {"Content-Type": KIND, **({"Accept": KIND} if number % 20 else {})}
        answer = session.post(f"{base}/predict", data=body, headers=headers, timeout=LONGEST_S)
        seen.add("POST", "/predict as Arrow", body[:200], answer)
        if whole and (answer.status_code, answer.headers["content-type"] == KIND) != (200, number % 20 != 0):
            seen.wrong.append(f"{answer.status_code} for a whole stream: {answer.text[:200]}")


def _bad(good: bytes, chooser: random.Random, large: bool) -> tuple[bytes, dict[str, str]]:
    if large:
        return b'{"instances": [' + b" " * (17 * 2**20) + b"]}", {}
    place = chooser.randrange(1, len(good))
    kinds: list[tuple[bytes, dict[str, str]]] = [
        (good[:place], {}),
        (good[:place] + bytes([chooser.choice([0, 1, 127, 128, 255])]) + good[place:] + b"}", {}),
        (b"[" * chooser.choice([10, 1000, 100_000]), {}),
        (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", {}),
        (good.replace(b": ", b': NaN, "x": ', 1), {}),
        (b'{"instances": [{"number": ' + chooser.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 5000]) + b"}]}", {}),
        (b'{"instances": [{"text": "\\ud800"}]}', {}),
        (b"\x1f\x8b" + good, {"Content-Encoding": "gzip"}),
        (chooser.randbytes(chooser.randrange(2000)), {}),
        (good.replace(b"instances", b"rows"), {}),
    ]
    return chooser.choice(kinds)


def _closed(document: dict[str, Any], base: str, seen: Seen) -> None:
    open_to_all = {"/health", "/v2/health/live", "/v2/health/ready"}
    for path in [*(one for one in document["paths"] if one not in open_to_all), "/", "/nothing", "/health/x", "/v2/health"]:
        for method in METHODS:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic OnRva2Vu"}, {"Authorization": ""}):
                answer = requests.request(method, base + path, headers=headers, data=b"{}", timeout=LONGEST_S)
                seen.statuses[answer.status_code] += 1
                if answer.status_code != 401:
                    seen.wrong.append(f"{answer.status_code} {method} {path} without the token")


if __name__ == "__main__":
    sys.exit(main())
