"""Plain requests take a short way past uvicorn's own: however they come in, each is answered as on the long way, and in its turn."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from models import served

from jupyter_mlp.deployment import Deployment

ROW = {"dep_delay": 4.0, "carrier": "UA"}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One endpoint for all of them."""
    with served(tmp_path_factory.mktemp("plain")) as made:
        yield made


def request(at: Deployment, number: int, path: str = "/predict", body: Any = None, head: str = "", method: str = "POST") -> bytes:
    data = json.dumps({"instances": [ROW], "id": str(number)} if body is None else body).encode()
    token = at.headers["Authorization"]
    length = "" if "chunked" in head else f"Content-Length: {len(data)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{length}{head}\r\n".encode() + (
        b"" if "chunked" in head else data
    )


def talk(at: Deployment, *pieces: bytes) -> list[tuple[int, Any]]:
    """Send pieces on one connection, and return the answers until the other side closes it."""
    with socket.create_connection(("127.0.0.1", at.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        said = b""
        while more := connection.recv(65536):
            said += more
    found = []
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            continue
        size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        found.append((status, json.loads(said[:size])))
        said = said[size:]
    return found


def last(at: Deployment, number: int) -> bytes:
    return request(at, number, head="Connection: close\r\n")


def test_requests_sent_together_are_answered_in_their_order_whichever_way_they_go(at: Deployment) -> None:
    v2 = {
        "inputs": [{"name": n, "shape": [1], "datatype": "BYTES" if isinstance(v, str) else "FP64", "data": [v]} for n, v in ROW.items()],
        "id": "2",
    }
    wrong = {"instances": [{**ROW, "dep_delay": "late"}], "id": "5"}
    kinds = {
        1: request(at, 1),
        2: request(at, 2, "/v2/models/delays/infer", v2),
        3: request(at, 3),
        4: request(at, 4, "/v1/models/delays:predict"),
        5: request(at, 5, body=wrong),
        6: request(at, 6, "/metadata", method="GET", body={}),
        7: request(at, 7),
        8: request(at, 8, body={"instances": [ROW] * 200, "id": "8"}),
    }
    found = talk(at, b"".join(kinds.values()) + last(at, 9))
    assert [status for status, _ in found] == [200, 200, 200, 200, 422, 200, 200, 200, 200]
    assert [answer.get("id") for _, answer in found if "generation" not in answer and "field" not in answer] == list("1234789")
    assert len(found[7][1]["predictions"]) == 200 and "dep_delay" in found[4][1]["field"]


def test_the_last_of_several_closes_the_connection_and_no_other(at: Deployment) -> None:
    found = talk(at, request(at, 1) + request(at, 2) + request(at, 3) + last(at, 4))
    assert [(status, answer["id"]) for status, answer in found] == [(200, "1"), (200, "2"), (200, "3"), (200, "4")]


def test_a_request_in_pieces_is_one_request(at: Deployment) -> None:
    whole = request(at, 1) + last(at, 2)
    found = talk(at, *(whole[i : i + 7] for i in range(0, len(whole), 7)))
    assert [(status, answer["id"]) for status, answer in found] == [(200, "1"), (200, "2")]


def test_a_chunked_body_and_one_that_waits_to_be_asked_for(at: Deployment) -> None:
    data = json.dumps({"instances": [ROW], "id": "1"}).encode()
    chunks = request(at, 1, head="Transfer-Encoding: chunked\r\n") + b"%x\r\n%b\r\n5\r\n     \r\n0\r\n\r\n" % (len(data), data)
    waits = request(at, 2, head="Expect: 100-continue\r\n")
    found = talk(at, chunks, waits, last(at, 3))
    assert [(status, answer["id"]) for status, answer in found] == [(200, "1"), (200, "2"), (200, "3")]


def test_a_large_body_goes_the_long_way(at: Deployment) -> None:
    padded = request(at, 1, body={"instances": [ROW], "id": "1" + " " * 200_000})
    found = talk(at, padded, last(at, 2))
    assert [status for status, _ in found] == [200, 200] and found[1][1]["id"] == "2"


def test_all_are_counted_and_remembered_whichever_way_they_went(at: Deployment) -> None:
    before = counted(at)
    talk(at, request(at, 1) + request(at, 2, body={"instances": []}) + request(at, 3, body={"instances": [ROW] * 100}) + last(at, 4))
    assert counted(at) == {"200": before.get("200", 0) + 3, "422": before.get("422", 0) + 1}


def test_without_the_token_nothing_is_answered(at: Deployment) -> None:
    token = at.headers["Authorization"].encode()
    for wrong in (b"Bearer x", token + b"x", b"Basic " + token):
        [(status, answer)] = talk(at, request(at, 1).replace(token, wrong))
        assert status == 401 and "predictions" not in answer


def counted(at: Deployment) -> dict[str, int]:
    token = at.headers["Authorization"]
    with socket.create_connection(("127.0.0.1", at.port), timeout=20) as connection:
        connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while more := connection.recv(65536):
            said += more
    found: dict[str, int] = {}
    for line in said.decode().splitlines():
        if line.startswith("mlp_requests_total{"):
            status = line.split('status="')[1].split('"')[0]
            found[status] = found.get(status, 0) + int(float(line.rsplit(" ", 1)[1]))
    return found
