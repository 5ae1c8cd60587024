"""A server that leaves loses nobody: whoever is connected, or comes while it looks, is served."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from jupyter_mlp.serving import child
from jupyter_mlp.serving.accepting import Server
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.requests_log import RequestLog

ASKS = b"GET /v2 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\r\n"  # which keeps the connection


def run(folder: Path, test: Callable[[Server, socket.socket], Awaitable[None]], loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Run a test beside a real server on a real socket."""

    async def both() -> None:
        app = App("delays", "secret", RequestLog(folder))
        server = Server(child._config(app), [listening])
        serving = asyncio.create_task(server.answer())
        while not server.started:
            await asyncio.sleep(0.01)
        await test(server, listening)
        server.should_exit = True
        await serving

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening, asyncio.Runner(loop_factory=loops) as runner:
        runner.run(both())


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loops(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    found: Callable[[], asyncio.AbstractEventLoop] = request.param
    return found


async def answered(reader: asyncio.StreamReader) -> bool:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return head.startswith(b"HTTP/1.1 200")


def test_who_is_connected_keeps_it(tmp_path: Path, loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test(server: Server, listening: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        assert not await server.rest()
        writer.write(ASKS)
        assert await answered(reader)
        writer.close()

    run(tmp_path, test, loops)


def test_who_comes_while_it_leaves_is_served_and_so_is_everybody_after(
    tmp_path: Path, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def test(server: Server, listening: socket.socket) -> None:
        stayed = 0
        for turns in range(12):  # it comes at another turn of the loop each time
            client = socket.create_connection(listening.getsockname())
            client.sendall(ASKS)
            for _ in range(turns):
                await asyncio.sleep(0)
            left = await server.rest()
            if left:  # it was not accepted yet: whoever holds the socket next finds it there, unread
                found, _ = listening.accept()
                with found:
                    assert found.recv(1000) == ASKS
                client.close()
                server.should_exit = False
                server.servers = [await asyncio.get_running_loop().create_server(server._protocol(), sock=listening.dup())]
                continue
            stayed += 1
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            assert await answered(reader)
            writer.close()
            after, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(ASKS)
            assert await answered(after)
            writer.close()
            while server.server_state.connections:
                await asyncio.sleep(0.01)
        assert 0 < stayed < 12

    run(tmp_path, test, loops)


def test_it_leaves_where_nobody_is_and_who_comes_then_waits(tmp_path: Path, loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test(server: Server, listening: socket.socket) -> None:
        assert await server.rest()
        assert server.should_exit
        with socket.create_connection(listening.getsockname(), timeout=5) as client:
            client.sendall(ASKS)
            await asyncio.sleep(0.05)
            found, _ = listening.accept()
            with found:
                assert found.recv(1000) == ASKS

    run(tmp_path, test, loops)


def test_connections_that_another_process_accepted_are_answered(tmp_path: Path, loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def begun() -> None:
        app = App("delays", "secret", RequestLog(tmp_path))
        server = Server(child._config(app), [listening], [accepted])
        serving = asyncio.create_task(server.answer())
        reader, writer = await asyncio.open_connection(sock=client)
        assert await answered(reader)
        assert json.loads(await reader.readuntil(b"}"))["name"] == "jupyter_mlp"
        writer.close()
        server.should_exit = True
        await serving

    with socket.create_server(("127.0.0.1", 0)) as listening, asyncio.Runner(loop_factory=loops) as runner:
        client = socket.create_connection(listening.getsockname())
        client.sendall(ASKS)
        accepted, _ = listening.accept()
        runner.run(begun())
