"""Which way a request takes past uvicorn's tasks: seen from the tasks that there are, on a transport in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from models import make_model
from uvicorn.server import ServerState

from jupyter_mlp.serving import child, routing
from jupyter_mlp.serving.answering import Serving
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.batching import Batcher
from jupyter_mlp.serving.direct import DirectProtocol
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.serving.requests_log import RequestLog
from jupyter_mlp.store.workspace import Workspace

ROW = {"dep_delay": 4.0, "carrier": "UA"}


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""

    def write(self, data: Any) -> None:
        self.said += data

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Endpoint:
    """A real model behind the real protocol; `calls` are the numbers of rows that the model was given at once."""

    def __init__(self, workspace: Workspace, shadow: bool = False) -> None:
        uuid = make_model(workspace)
        self.predictor = Predictor.load(workspace.models / uuid)
        self.predictor.check()
        self.predictor.instant = True  # whatever this machine does beside
        self.calls: list[int] = []
        answer = self.predictor.answer

        def counted(rows: Any) -> Any:
            self.calls.append(len(rows))
            return answer(rows)

        self.predictor.answer = counted  # type: ignore[method-assign]
        self.app = App("delays", "token", RequestLog(workspace.root / "requests"))
        variants = [routing.Variant(uuid), *([routing.Variant("copy", 0, shadow=True)] if shadow else [])]
        batchers = {uuid: Batcher(self.predictor), "copy": Batcher(self.predictor)}
        self.app.serve(Serving(1, routing.Router(variants, "delays"), batchers))
        self.state = ServerState()
        self._config = child._config(self.app)
        self._config.load()

    def connect(self) -> tuple[DirectProtocol, Wire]:
        protocol, wire = DirectProtocol(self._config, self.state, {}), Wire()
        protocol.connection_made(wire)
        return protocol, wire


def request(rows: int = 1, token: str = "token", more: str = "") -> bytes:
    body = json.dumps({"instances": [ROW] * rows}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def spoken(wire: Wire) -> None:
    async with asyncio.timeout(30):
        while not wire.said:
            await asyncio.sleep(0.001)


def run(workspace: Workspace, steps: Callable[[Endpoint], Awaitable[None]], **more: Any) -> None:
    async def begin() -> None:
        endpoint = Endpoint(workspace, **more)
        await steps(endpoint)
        endpoint.app.serving.batchers["copy"].retire()  # type: ignore[union-attr]

    workspace.root.mkdir(parents=True, exist_ok=True)
    asyncio.run(begin())


def test_who_comes_alone_is_answered_before_the_loop_turns(workspace: Workspace) -> None:
    async def steps(endpoint: Endpoint) -> None:
        protocol, wire = endpoint.connect()
        for count in (1, 2):
            protocol.data_received(request())
            assert wire.said.count(b"HTTP/1.1 200 OK") == count and not endpoint.state.tasks
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    run(workspace, steps)


def test_who_come_in_one_turn_share_a_call_and_need_no_task(workspace: Workspace) -> None:
    async def steps(endpoint: Endpoint) -> None:
        both = [endpoint.connect() for _ in range(6)]
        for _ in range(2):
            endpoint.calls.clear()
            for protocol, _wire in both:
                protocol.data_received(request())
            assert not endpoint.state.tasks
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert all(wire.said.count(b"HTTP/1.1 200 OK") == 2 for _, wire in both)
        assert endpoint.calls == [6], "of the second time: nobody is alone who comes where many came in the turn before"

    run(workspace, steps)


def test_what_is_not_plain_goes_the_long_way(workspace: Workspace) -> None:
    async def steps(endpoint: Endpoint) -> None:
        kind = "Application/vnd.Apache.Arrow.stream"
        for asked, status in (
            (request(rows=17), b"200"),
            (request(token="wrong"), b"401"),
            (request(rows=0), b"422"),
            (request(more=f"Accept: {kind}\r\n"), b"200"),
            (request(more=f"Content-Type: {kind}\r\n"), b"400"),  # JSON that says it is Arrow
        ):
            protocol, wire = endpoint.connect()
            protocol.data_received(asked)
            assert not wire.said and len(endpoint.state.tasks) == 1
            await spoken(wire)
            assert wire.said.startswith(b"HTTP/1.1 " + status)

    run(workspace, steps)


def test_who_leaves_says_so_with_the_next_answer_of_each_connection(workspace: Workspace) -> None:
    async def steps(endpoint: Endpoint) -> None:
        protocol, wire = endpoint.connect()
        protocol.data_received(request())
        assert b"connection: close" not in wire.said
        endpoint.app.leave()
        protocol.data_received(request())
        async with asyncio.timeout(30):
            while wire.said.count(b"HTTP/1.1 200 OK") < 2:
                await asyncio.sleep(0.001)
        assert wire.said.count(b"connection: close") == 1 and not endpoint.state.connections - {protocol}

    run(workspace, steps)


def test_beside_a_shadow_and_with_a_slow_model_too(workspace: Workspace, tmp_path: Path) -> None:
    async def takes_the_long_way(endpoint: Endpoint) -> None:
        protocol, wire = endpoint.connect()
        protocol.data_received(request())
        assert not wire.said and len(endpoint.state.tasks) == 1
        await spoken(wire)
        assert wire.said.startswith(b"HTTP/1.1 200")

    async def slow(endpoint: Endpoint) -> None:
        endpoint.predictor.instant = False
        await takes_the_long_way(endpoint)

    run(workspace, takes_the_long_way, shadow=True)
    run(workspace, slow)
