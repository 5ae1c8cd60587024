"""A real Jupyter server for tests: its own folders, a free port, loopback only."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STARTS_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running server. `folder` is what it shows; `workspace` what its kernels work in."""

    url: str
    token: str
    folder: Path
    workspace: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])


@contextmanager
def running(place: Path, *options: str, app: str = "lab", environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Start `jupyter lab` (or another app) below `place`, and end it with its kernels."""
    token, folder, runtime = secrets.token_hex(16), place / "notebooks", place / "runtime"
    for made in (folder, runtime, place / "config"):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = {
        "MLP_WORKSPACE": str(place / "workspace"),
        "JUPYTER_CONFIG_DIR": str(place / "config"),
        "JUPYTER_DATA_DIR": str(place / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(place / "layouts"),
        "IPYTHONDIR": str(place / "ipython"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLP_", "JUPYTER", "JPY_"))}
    command = [sys.executable, "-m", "jupyterlab" if app == "lab" else "jupyter_server", "--no-browser", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", *options]
    if os.geteuid() == 0:
        command.append("--allow-root")
    log = place / "server.log"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            command, stdout=printed, stderr=printed, env={**ours, **told, **(environment or {})}, cwd=folder, start_new_session=True
        )
    try:
        yield Server(_url(runtime, process, log), token, folder, place / "workspace", process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(runtime: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _STARTS_S
    while time.monotonic() < deadline:
        for path in runtime.glob("jpserver-*.json"):
            told = json.loads(path.read_text() or "{}")
            if told.get("url") and _answers(int(told["port"])):  # the file is there a moment before the server listens
                return str(told["url"]).replace("localhost", "127.0.0.1")
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"The server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
