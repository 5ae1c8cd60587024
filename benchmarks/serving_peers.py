"""The peers of our endpoint: one torch MLP behind FastAPI, Ray Serve, LitServe, BentoML and MLflow, each as its own guide says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from peers import python_of

ALL = ("fastapi", "litserve", "litserve-batched", "bentoml", "mlflow", "ray", "ray-batched")
PATH = {"ray-batched": "/batched", "mlflow": "/invocations"}
APPS = Path(__file__).with_name("serving_apps.py")
START_S = 120
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}  # fmt: skip


def installed(name: str) -> str | None:
    """Return the interpreter that has the peer, or None."""
    return python_of(name.removesuffix("-batched"))


def missing() -> list[str]:
    """The peers that are not installed."""
    return [name for name in ALL if installed(name) is None]


@contextmanager
def running(names: Sequence[str], hidden: Sequence[int], row: Sequence[float]) -> Iterator[dict[str, tuple[int, str, bytes]]]:
    """Give port, path and body of each peer that is installed; each runs while the block does."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = {}
        for name in dict.fromkeys(name.replace("ray-batched", "ray") for name in names if installed(name)):
            port = _free_port()
            stack.enter_context(_process(name, port, hidden, Path(folder, f"{name}.log")))
            for route in (name, "ray-batched") if name == "ray" else (name,):
                if route in names:
                    body = json.dumps({"inputs": [list(row)]} if name == "mlflow" else {"x": list(row)}).encode()
                    found[route] = (port, PATH.get(route, "/predict"), body)
                    _wait(*found[route])
        yield found


@contextmanager
def _process(name: str, port: int, hidden: Sequence[int], log: Path) -> Iterator[None]:
    argv = [str(installed(name)), str(APPS), name, str(port), *map(str, hidden)]
    with log.open("w") as out:
        process = subprocess.Popen(argv, env=os.environ | ONE_THREAD, cwd=log.parent, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    except TimeoutError:
        print(f"{name}: {log.read_text()[-500:]}", file=sys.stderr)
        raise
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what its own end left
        process.wait()


def _wait(port: int, path: str, body: bytes) -> None:
    deadline = time.monotonic() + START_S
    while True:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"content-type": "application/json"})
        try:
            urllib.request.urlopen(asked, timeout=5).read()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} on port {port}: {error}") from error
            time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
