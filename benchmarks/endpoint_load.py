"""One model behind our endpoint and behind plain FastAPI + uvicorn, and closed-loop clients that ask them.

The model is the MLP 32-64-1 of the peers, or one with more and wider layers; ours with validation, routing and the log of
requests on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import cast

FEATURES = 32
ROW = {f"x{i}": round(0.01 * i - 0.15, 4) for i in range(FEATURES)}
SECONDS = 2.0
SMALL = (64,)
HEAVY = (2048,) * 9  # widths of the hidden layers: about 10 ms for a row on one core

PEER = """
import sys, torch, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
torch.set_num_threads(1)
torch.manual_seed(0)
widths = [32, *map(int, sys.argv[2:])]
layers = [part for one in zip(widths, widths[1:]) for part in (torch.nn.Linear(*one), torch.nn.ReLU())]
model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1)).eval()
class Body(BaseModel):
    x: list[float]
app = FastAPI()
@app.post("/predict")
async def predict(body: Body):
    with torch.inference_mode():
        return {"y": model(torch.tensor([body.x]))[0, 0].item()}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


@contextmanager
def servers(hidden: Sequence[int] = SMALL) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Give port and request of ours and, where FastAPI is installed, of the peer; `hidden` are the model's inner widths."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import jupyter_mlp as mlp

        at = mlp.deploy(_model(hidden), to="mlp")
        body = json.dumps({"instances": [ROW]}).encode()
        found = {"ours": (at.port, _request("/predict", body, at.headers["Authorization"]))}
        peer = None
        try:
            if importlib.util.find_spec("fastapi") is not None:
                with socket.create_server(("127.0.0.1", 0)) as free:
                    port = free.getsockname()[1]
                peer = subprocess.Popen([sys.executable, "-c", PEER, str(port), *map(str, hidden)])
                asked = json.dumps({"x": list(ROW.values())}).encode()
                _ready(port, asked)
                found["peer"] = (port, _request("/predict", asked, ""))
            yield found
        finally:
            if peer is not None:
                peer.terminate()
                peer.wait()
            at.stop()


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


def _ready(port: int, body: bytes) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"})
            urllib.request.urlopen(asked, timeout=5).read()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), self._held
        self._took.append(time.perf_counter() - self._begun)
        self._held = b""
        self._ask()


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
