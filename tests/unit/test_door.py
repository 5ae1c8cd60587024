"""Who wakes a model that is not in memory, and who only asks how the endpoint is: on real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from jupyter_mlp.serving.door import Door

PREDICT = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as found:
        yield found


def connected(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname(), timeout=5)


class Minded:
    """A door that somebody looks after meanwhile; `woken` when somebody asked for the model."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.woken = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._mind)

    def _mind(self) -> None:
        while not self._stop.is_set() and not self.woken:
            self.woken = self.door.wait(0.02)

    def __enter__(self) -> Minded:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/v2/health/ready"])
def test_health_is_answered_and_wakes_nobody(listening: socket.socket, path: str) -> None:
    port = listening.getsockname()[1]
    with Door([listening]) as door, Minded(door) as minded:
        for _ in range(20):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                assert (answer.status, json.load(answer)) == (200, {"live": True, "ready": True, "cold": True})
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        for _ in range(3):  # a prober that would keep its connection
            connection.request("HEAD", path)
            answer_to_head = connection.getresponse()
            assert (answer_to_head.status, answer_to_head.read(), answer_to_head.getheader("connection")) == (200, b"", "close")
        connection.close()
        assert not minded.woken


@pytest.mark.parametrize(
    "said",
    [
        PREDICT,
        b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /health HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /healthy HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /hea",  # who says half of it is answered by who can wait for the rest
        b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" + PREDICT,
        b"\x16\x03\x01",
    ],
)
def test_all_else_wakes_the_model_and_is_handed_on_unread(listening: socket.socket, said: bytes) -> None:
    with Door([listening]) as door, connected(listening) as client:
        client.sendall(said)
        deadline = time.monotonic() + 5
        while not door.wait(0.05):
            assert time.monotonic() < deadline
        (taken,) = door.take()
        with taken:
            assert taken.recv(1000) == said
            taken.sendall(b"well")
            assert client.recv(10) == b"well"


def test_who_only_connects_wakes_nobody_and_is_handed_on_with_who_does(listening: socket.socket) -> None:
    with Door([listening]) as door, connected(listening) as silent, connected(listening) as gone:
        assert not door.wait(0.05)
        gone.close()
        assert not door.wait(0.05)
        with connected(listening) as asking:
            asking.sendall(PREDICT)
            while not door.wait(0.05):
                pass
            taken = door.take()
            assert {one.getpeername() for one in taken} == {silent.getsockname(), asking.getsockname()}
            for one in taken:
                one.close()


def test_very_many_silent_ones_wake_the_model_which_can_hold_more(listening: socket.socket) -> None:
    with Door([listening]) as door, ExitStack() as clients:
        for _ in range(70):
            clients.enter_context(connected(listening))
        assert door.wait(1.0)
        for one in door.take():
            one.close()


def test_several_sockets_have_one_door() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second, Door([first, second]) as door:
        for listening in (first, second):
            with connected(listening) as client:
                client.sendall(PREDICT)
                while not door.wait(0.05):
                    pass
                (taken,) = door.take()
                with taken:
                    assert taken.recv(1000) == PREDICT
