"""The local Spark server: where it listens, and what is said when it cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psutil
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


def _named_like_a_server(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, "org.apache.spark.sql.connect.service.SparkConnectServer"], stdout=subprocess.PIPE
    )


def test_a_server_that_ended_keeps_none_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])  # nobody waits for it, as for a server whose starter is gone
    while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert spark_server._ended(dead.pid)
    dead.wait()
    assert spark_server._ended(dead.pid) and spark_server._ended(os.getpid()), "another process may have its id now"
    with _named_like_a_server("print(flush=True); import time; time.sleep(1)") as ending:
        assert ending.stdout is not None and ending.stdout.readline()
        assert spark_server._ended(ending.pid)
    monkeypatch.setattr(spark_server, "_ENDING_S", 0.2)
    with _named_like_a_server("print(flush=True); import time; time.sleep(60)") as stays:
        try:
            assert stays.stdout is not None and stays.stdout.readline()
            assert not spark_server._ended(stays.pid)
        finally:
            stays.kill()
