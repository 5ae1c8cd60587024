"""The warm local Spark Connect server of this environment: found where it runs, started where it does not.

It is Spark's own reusable one (loopback only, token); all kernels of this environment share it, and it stops when idle.
What only its start needs is imported then: a known answer loads this file, too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_mlp.backends.spark_runtime import runtime_folder, touch
from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.store.processes import free_port, spawn

if TYPE_CHECKING:
    import psutil

_starting = threading.Lock()
_ENDING_S = 15.0


class Server(NamedTuple):
    """A server that was found: where it listens, its process, and the folder where it is written down."""

    address: str
    pid: int
    runtime: Path


def start_local(settings: Settings) -> Server:
    """Return this environment's warm local server, starting it when needed.

    Raises:
        JobError: it did not start.
    """
    runtime = runtime_folder()
    with _starting, _environment(SPARK_LOCAL_CONNECT_DISCOVERY=str(runtime / "connect.json")):
        touch(runtime)
        found = _found(runtime)
        if found is not None:
            return found
        _let_end()
        _launch(settings, runtime)
        found = _found(runtime)
    if found is None:
        raise JobError("The local Spark server ended at once.", f"Its log is in {runtime / 'logs'}.")
    command = [sys.executable, "-m", "jupyter_mlp.backends.spark_idle", str(runtime), str(settings.idle_stop_s)]
    spawn(command, runtime / "idle.log")
    return found


def runs(server: Server) -> bool:
    """Whether the server still runs, and goes on for now: what stops it when idle holds the same lock, and sees that it is used."""
    from pyspark.sql.connect import local_server

    touch(server.runtime)
    with local_server.Discovery(str(server.runtime / "connect.json")) as discovery:
        found = local_server.LocalConnectServer(discovery)
        return found.pid == server.pid and bool(found.is_reusable()) and found.url == server.address


def _found(runtime: Path) -> Server | None:
    """Return the server that runs, and let this process know its token."""
    from pyspark.sql.connect import local_server

    with local_server.Discovery() as discovery:
        server = local_server.LocalConnectServer(discovery)
        if not server.is_reusable():
            return None
        os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = str(server.token)
        return Server(str(server.url), int(server.pid), runtime)


def _let_end() -> None:
    """Wait for a server that is ending, and forget the process id of one that ended: Spark starts none beside it."""
    from pyspark.sql.connect import local_server

    with local_server.Discovery() as discovery:
        if local_server.LocalConnectServer(discovery).is_reusable():
            return  # somebody else started it meanwhile
        pid = discovery.daemon_pid()
        if pid is not None and _ended(pid):
            Path(discovery.daemon_pid_path).unlink(missing_ok=True)


def _ended(pid: int) -> bool:
    """Whether no server has this process id, or none any more after a while."""
    import psutil

    try:
        process = psutil.Process(pid)
        # A process that was killed keeps its id where nobody waits for it, and then has no command line.
        if process.status() == psutil.STATUS_ZOMBIE or not any("SparkConnectServer" in word for word in process.cmdline()):
            return True
        process.wait(_ENDING_S)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return _is_zombie(process)
    return True


def _is_zombie(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _launch(settings: Settings, runtime: Path) -> None:
    import subprocess

    from jupyter_mlp.backends import java

    chosen = java.choose(runtime)
    variables = {"JAVA_HOME": chosen.home, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(runtime / "scratch")}
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_mlp.backends.spark_launch", settings.spark],
        input=json.dumps(_server_options(settings, runtime)),
        env={**{k: v for k, v in os.environ.items() if k != "SPARK_TESTING"}, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise JobError(f"The local Spark server did not start: {said}", f"Its log is in {runtime / 'logs'}.")


def _server_options(settings: Settings, runtime: Path) -> dict[str, str]:
    return {
        "spark.driver.memory": settings.spark_memory,
        "spark.driver.extraJavaOptions": f"-XX:+UseParallelGC -Dderby.system.home={runtime / 'derby'}",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(runtime / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": "8",
        "spark.driver.maxResultSize": "0",
        "spark.log.level": "ERROR",
        # Spark's usual one is found free by two environments that start at once, and one would ask the other's server.
        "spark.local.connect.server.port": str(free_port()),
    }


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        _set_environment(values)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
