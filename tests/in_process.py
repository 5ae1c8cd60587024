"""An endpoint's application without its process: real models behind the real application, asked by its own interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from jupyter_mlp.serving.answering import Serving
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.batching import Batcher
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.serving.requests_log import RequestLog
from jupyter_mlp.serving.routing import Router, Variant
from jupyter_mlp.store.workspace import Workspace

TOKEN = {"authorization": "Bearer token"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Awaitable[Answer]]


def with_endpoint(workspace: Workspace, variants: list[Variant], use: Callable[[Ask], Awaitable[None]]) -> None:
    """Serve models as the endpoint `delays` while `use` asks."""

    async def run() -> None:
        log = RequestLog(workspace.root / "requests")
        app = App("delays", "token", log)
        batchers = {}
        for variant in variants:
            predictor = Predictor.load(workspace.models / variant.model)
            predictor.check()
            batchers[variant.model] = Batcher(predictor)
        app.serve(Serving(1, Router(variants, "delays"), batchers))

        async def ask(path: str, body: Any = None, headers: Mapping[str, str] = TOKEN, method: str = "") -> Answer:
            data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            return await asked(app, method or ("GET" if body is None else "POST"), path, data, headers)

        await use(ask)
        while any(batcher._open for batcher in batchers.values()):  # shadows
            await asyncio.sleep(0.001)
        log.flush()

    asyncio.run(run())


async def asked(app: App, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Ask an application once."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, sent[1]["body"])
