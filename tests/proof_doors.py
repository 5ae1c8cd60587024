"""Ten thousand generated requests against a real server: what is wrong is refused, and nothing is ever the server's failure.

Routes, methods, arguments and bodies are mutations of good ones: other kinds, ends cut off, numbers out of range, markup, control
characters, lone surrogates, deep and broken JSON. Prints the answers by status; fails on any 5xx, and on an answer without words.
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
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder, "workspace"))
        with jupyter.running(Path(folder), app="server") as server:
            for _ in range(given.requests):
                method, path, body = _request(chooser)
                status, answer = _send(server, method, path, body)
                seen[status] += 1
                if status >= 500 or (status in (400, 404, 409) and not _is_said(answer)):
                    wrong.append(f"{status} {method} {path[:200]} {body[:200]!r} -> {answer[:200]!r}")
    took = time.perf_counter() - begun
    print(f"{given.requests:,} requests in {took:.0f} s: " + ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.items())))
    print("\n".join(wrong[:20]) or "none failed, none was refused without a word")
    return int(bool(wrong) or not seen[200] or not seen[400] or not seen[404])


def _fill(root: Path) -> None:
    activities = Workspace(root).activities
    for number in range(50):
        activities.finish(activities.begin("query", name="trips"), made=[Ref("dataset", "trips", f"{number:032x}")])
        activities.fail(activities.begin("train", name="Net"), "no")


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
