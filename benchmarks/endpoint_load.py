"""One model behind our endpoint and behind peers, and closed-loop clients that ask them.

The model is the MLP 32-64-1 of the peers, or one with more and wider layers; ours with validation, routing and the log of
requests on.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast

import serving_peers
from serving_apps import FEATURES

ROW = {f"x{i}": round(0.01 * i - 0.15, 4) for i in range(FEATURES)}
SECONDS = 2.0
SMALL = (64,)
HEAVY = (2048,) * 9  # widths of the hidden layers: about 10 ms for a row on one core


@contextmanager
def servers(hidden: Sequence[int] = SMALL, peers: Sequence[str] = ("fastapi",)) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Give port and request of "ours" and of each peer that is installed; `hidden` are the model's inner widths."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import jupyter_mlp as mlp

        at = mlp.deploy(_model(hidden), to="mlp")
        body = json.dumps({"instances": [ROW]}).encode()
        found = {"ours": (at.port, _request("/predict", body, at.headers["Authorization"]))}
        try:
            with serving_peers.running(peers, hidden, list(ROW.values())) as others:
                yield found | {name: (port, _request(path, asked, "")) for name, (port, path, asked) in others.items()}
        finally:
            at.stop()


@contextmanager
def processes(hidden: Sequence[int], number: int) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Give port and request of "ours", an endpoint of so many processes, and of "peer", the same model behind one."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import jupyter_mlp as mlp

        model, body = _model(hidden), json.dumps({"instances": [ROW]}).encode()
        made = {"ours": mlp.deploy(model, to="several", replicas=number), "peer": mlp.deploy(model, to="one")}
        try:
            yield {name: (at.port, _request("/predict", body, at.headers["Authorization"])) for name, at in made.items()}
        finally:
            for at in made.values():
                at.stop()


class Best:
    """Ours beside the best of several peers: each is asked in each round, and the note says what each gave."""

    def __init__(self, measure: Callable[[tuple[int, bytes]], float]) -> None:
        self._measure = measure
        self._seen: dict[str, list[float]] = {}

    def sides(self, found: Mapping[str, tuple[int, bytes]]) -> dict[str, Callable[[], float]]:
        """Return what the bench calls, for servers by name, "ours" among them."""

        def of(*names: str) -> float:
            for name in names:
                self._seen.setdefault(name, []).append(self._measure(found[name]))
            return min(self._seen[name][-1] for name in names)

        peers = [name for name in found if name != "ours"]
        return {"ours": partial(of, "ours"), "peer": partial(of, *peers)}

    def note(self, shown: Callable[[float], str]) -> str:
        """Return the median of each, and who is missing."""
        medians = ", ".join(f"{name} {shown(statistics.median(values))}" for name, values in self._seen.items())
        absent = serving_peers.missing()
        return medians + (f"; not installed: {', '.join(absent)}" if absent else "")


def clients(server: tuple[int, bytes], connections: int, seconds: float = SECONDS) -> tuple[float, float]:
    """Ask in a process of its own; return the median time of an answer in seconds, and answers a second."""
    port, request = server
    argv = [sys.executable, __file__, str(port), str(connections), str(seconds)]
    told = subprocess.run(argv, input=request, stdout=subprocess.PIPE, check=True).stdout
    median, rate = map(float, told.split())
    return median, rate


def _model(hidden: Sequence[int]) -> str:
    """Register the MLP as training does."""
    import numpy as np
    import pyarrow as pa
    import torch

    from jupyter_mlp.backends import onnx
    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.store import registry
    from jupyter_mlp.store.workspace import current

    random = np.random.default_rng(7)
    table = pa.table({**{name: random.normal(size=500) for name in ROW}, "y": random.normal(size=500)})
    recipe = Recipe.infer(table.schema, "y", "regression").fit(table.to_batches())
    torch.manual_seed(0)
    widths = [recipe.width, *hidden]
    layers = [part for one in pairwise(widths) for part in (torch.nn.Linear(*one), torch.nn.ReLU())]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1), torch.nn.Flatten(0)).eval()
    with tempfile.TemporaryDirectory() as folder:
        export = onnx.export(net, torch.zeros(4, recipe.width), Path(folder, "model.onnx"))
        assert export["kind"] == "onnx", export
        card = {
            "name": "Mlp", "run": "run:bench", "task": "regression", "target": "y", "classes": None, "metrics": {},
            "data": "dataset:rows@1", "recipe": json.loads(json.dumps(recipe.to_dict())), "export": export, "example": ROW,
            "signature": {"inputs": [{"name": name, "type": "double", "nullable": True} for name in ROW]},
        }  # fmt: skip
        uuid = registry.register(current(), Path(folder), card)
    with current().activities.recording("train", name="Mlp") as draft:
        draft.made.append(Ref("model", uuid))
    return f"model:{uuid}"


def _request(path: str, body: bytes, bearer: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Authorization: {bearer}\r\n" if bearer else "") + "\r\n").encode() + body


class _Client(asyncio.Protocol):
    """A connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, took: list[float]) -> None:
        self._request, self._took, self._held = request, took, b""
        self._begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by what it does, not by its class
        self._ask()

    def _ask(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        if not end:
            return
        if not _whole(head.lower(), body):
            return
        assert head.startswith(b"HTTP/1.1 200"), self._held
        self._took.append(time.perf_counter() - self._begun)
        self._held = b""
        self._ask()


def _whole(head: bytes, body: bytes) -> bool:
    if b"content-length:" in head:
        return len(body) >= int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")  # in chunks


async def _ask_all(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    took: list[float] = []
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: _Client(request, took), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.sleep(0.3)
    took.clear()
    await asyncio.sleep(seconds)
    found = list(took)
    for transport, _ in opened:
        transport.close()
    return found


def _main() -> None:
    import uvloop

    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        took = runner.run(_ask_all(port, sys.stdin.buffer.read(), connections, seconds))
    print(statistics.median(took), len(took) / seconds)


if __name__ == "__main__":
    _main()
