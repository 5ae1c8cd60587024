"""Ten thousand generated requests against a real server, twice: what is wrong is refused, and nothing is ever the server's failure.

generated   by schemathesis from a description of the routes: half of them fit it, half break it somewhere
mutated     other kinds, ends cut off, numbers out of range, markup, control characters, lone surrogates, deep and broken JSON

Prints the answers by status; fails on any 5xx, and on an answer without words.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))
import jupyter_servers as jupyter

from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends.remote import TAKEN
from jupyter_mlp.store import shelf
from jupyter_mlp.store.workspace import Workspace

ROUTES = (
    "list/{kind}",
    "search",
    "thing",
    "lineage",
    "traffic",
    "clusters",
    "difference",
    "log",
    "report",
    "schedule",
    "starters",
    "starter",
    "verb/{verb}",
    "changes",
    "nothing",
)
ARGUMENTS = ("ref", "text", "kind", "name", "cursor", "limit", "session", "before", "after")
PIECES = (
    "", "0", "1", "-1", "99999999999999999999", "1.a", "9" * 18 + ".x", "NaN", "null", "true", "dataset:trips", "table:lake.a@1", "run:x",
    "model:" + "a" * 36, "endpoint:../..", "report:x@y", "file:/etc/passwd@1", "snapshot:%00", "../../etc/passwd", "\0", "\n", "'", '"',
    "<script>", "%", "_", "\u202e", "\U0001f600", "\u00e9", "a" * 12_000, "--help", "-h", "--", "-", ":", "@", "::@@", " ",
)  # fmt: skip
VALUES: tuple[Any, ...] = (*PIECES, 0, 1, -1, 10**30, True, False, None, 1.5, [], {}, [[1]], "\ud800")


def main() -> int:
    """Send the requests and say what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    chooser, seen, begun = random.Random(given.seed), Counter[int](), time.perf_counter()
    wrong: list[str] = []

    def count(method: str, path: str, body: Any, status: int, answer: bytes) -> None:
        seen[status] += 1
        if status >= 500 or (status in (400, 404, 409) and not _is_said(answer)):
            wrong.append(f"{status} {method} {path[:200]} {str(body)[:200]} -> {answer[:200]!r}")

    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder, "workspace"))
        with jupyter.running(Path(folder), app="server") as server:
            _generated(server, given.requests, given.seed, count)
            for _ in range(given.requests):
                method, path, body = _request(chooser)
                count(method, path, body, *_send(server, method, path, body))
    took = time.perf_counter() - begun
    print(
        f"{sum(seen.values()):,} requests in {took:.0f} s: " + ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.items()))
    )
    print("\n".join(wrong[:20]) or "none failed, none was refused without a word")
    return int(bool(wrong) or not seen[200] or not seen[400] or not seen[404])


def _fill(root: Path) -> None:
    activities = Workspace(root).activities
    for number in range(50):
        activities.finish(activities.begin("query", name="trips"), made=[Ref("dataset", "trips", f"{number:032x}")])
        activities.fail(activities.begin("train", name="Net"), "no")


def _described() -> dict[str, Any]:
    """The routes as an OpenAPI document: what each takes, and that it takes nothing else."""
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
    kinds = {"type": "string", "enum": [*shelf.KINDS, "schedule"]}
    refs = {"type": "string", "pattern": r"^(dataset|table|run|model|endpoint|report|snapshot):[a-z0-9._-]{1,40}(@[0-9a-f]{1,32})?$"}
    limit = {"type": "integer", "minimum": 1, "maximum": 200}
    ref = {"ref": refs}
    gets: dict[str, dict[str, Any]] = {
        "search": {"text": text, "kind": kinds, "limit": limit}, "thing": ref, "lineage": ref, "log": ref, "report": ref, "clusters": {},
        "traffic": {"name": text}, "difference": {"before": refs, "after": refs}, "schedule": {"session": text}, "starters": {},
        "starter": {"name": text},
    }  # fmt: skip
    gets |= {f"list/{kind}": {"limit": limit, "cursor": text} for kind in kinds["enum"]}
    paths: dict[str, Any] = {}
    for path, taken in gets.items():
        parameters = [{"name": name, "in": "query", "schema": kind} for name, kind in taken.items()]
        paths[f"/{path}"] = {"get": {"parameters": parameters, "responses": {"200": {"description": "told"}}}}
    value = {"anyOf": [text, refs, {"type": "integer"}, {"type": "boolean"}, {"type": "null"}]}
    for verb, names in TAKEN.items():
        safe = [name for name in names if name not in ("cascade", "stop")]
        body = {"type": "object", "properties": dict.fromkeys(safe, value), "additionalProperties": False}
        content = {"application/json": {"schema": body}}
        paths[f"/verb/{verb}"] = {"post": {"requestBody": {"content": content}, "responses": {"200": {"description": "done"}}}}
    return {"openapi": "3.1.0", "info": {"title": "jupyter_mlp", "version": "1"}, "paths": paths}


def _generated(server: jupyter.Server, times: int, seed: int, count: Callable[..., None]) -> None:
    """Send so many requests that schemathesis makes, as many to each route, half of them wrong."""
    import hypothesis
    import requests
    import schemathesis
    from schemathesis.generation import GenerationMode

    operations = [found.ok() for found in schemathesis.openapi.from_dict(_described()).get_all_operations()]
    session = requests.Session()
    session.headers["Authorization"] = f"token {server.token}"
    base, sent = f"http://127.0.0.1:{server.port}/jupyter-mlp", 0
    while sent < times:
        for operation, mode in product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
            if sent >= times:
                return
            before, seed = sent, seed + 1

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=max(1, times // (2 * len(operations))),
                deadline=None,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            @hypothesis.given(case=operation.as_strategy(mode))
            def ask(case: Any) -> None:
                nonlocal sent
                sent += 1
                answer = case.call(base_url=base, session=session, timeout=60)
                count(case.method, case.formatted_path, case.body or case.query, answer.status_code, answer.content)

            try:
                ask()
            except hypothesis.errors.Unsatisfiable:  # nothing is wrong where nothing is taken
                assert sent == before


def _request(chooser: random.Random) -> tuple[str, str, bytes]:
    route = chooser.choice(ROUTES).format(kind=chooser.choice([*shelf.KINDS, "x", ""]), verb=chooser.choice([*TAKEN, "train", "x"]))
    words = [chooser.choice(PIECES) for _ in range(chooser.randrange(3))]
    query = "&".join(f"{chooser.choice(ARGUMENTS)}={quote(word) if chooser.random() < 0.9 else '%ff%zz'}" for word in words)
    usual = "POST" if route.startswith("verb") else "GET"
    method = usual if chooser.random() < 0.9 else chooser.choice(["GET", "POST", "PUT", "DELETE", "HEAD"])
    return method, f"/jupyter-mlp/{route}{'?' + query if query else ''}", _body(chooser, route) if method in ("POST", "PUT") else b""


def _body(chooser: random.Random, route: str) -> bytes:
    verb = route.removeprefix("verb/")
    names = [*TAKEN.get(verb, ()), chooser.choice(["x", "wait", "logs", "file", ""])]
    told = {name: chooser.choice(VALUES) for name in names if chooser.random() < 0.7}
    if told.get("cascade") is True or told.get("stop") is True:
        told.pop("cascade", None)
    data = json.dumps(told).encode()
    return data if chooser.random() < 0.8 else chooser.choice([data[: len(data) // 2], b"\xff\xfe", b"[" * 5_000, b"null", b"1", b""])


def _send(server: jupyter.Server, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body or None, {"Authorization": f"token {server.token}"})
        answer = connection.getresponse()
        return answer.status, answer.read() if answer.status != 101 else b""
    finally:
        connection.close()


def _is_said(answer: bytes) -> bool:
    """Whether it has words; the server itself answers for routes and methods that are not ours, and to HEAD nobody does."""
    try:
        return not answer or bool(json.loads(answer).get("message"))
    except ValueError:
        return b"<" in answer or b'Can "Upgrade"' in answer


if __name__ == "__main__":
    sys.exit(main())
