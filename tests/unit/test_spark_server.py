"""The local Spark server: where it listens, and what is said when it cannot be reached."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from jupyter_mlp.backends import spark_server
from jupyter_mlp.backends.spark_errors import first_line
from jupyter_mlp.core.config import load


def test_two_that_start_at_once_do_not_meet_at_one_port(tmp_path: Path) -> None:
    settings = load(tmp_path)
    ports = {spark_server._server_options(settings, tmp_path)["spark.local.connect.server.port"] for _ in range(5)}
    assert len(ports) > 1 and "15002" not in ports


def test_a_server_that_does_not_answer_is_told_in_a_sentence() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/a/b")(b"", timeout=5)
    said = first_line(error.value)
    assert "<" not in said and "connect" in said.lower()
