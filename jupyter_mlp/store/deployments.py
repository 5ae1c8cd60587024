"""Endpoint folders: what is wanted of an endpoint, what it really does, its token and its process.

<workspace>/endpoints/<name>/
  wanted.json     written by deploy(): generation, variants, port      (what should be)
  actual.json     written by the host: generation, serving, error      (what is)
  process.json    written by the host: pid, start time, port
  replicas/       where several processes serve, one file each in the place of actual.json, which is written when all agree: on this
                  machine by the last of them, on a cluster by the deploying side
  metrics/        where several processes of this machine serve, what each has counted
  address.json    on a cluster: where the endpoint is asked
  token           0600; whoever can read it may ask for predictions
  requests/       the log of requests; stays when the endpoint is stopped
  outcomes/       what really happened, by the id of the answer
  warmth.json     written by the host: whether its model is in memory, and how much of that all its processes take
  used            touched while somebody asks it
  host.log        what the host's processes printed
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.processes import Process

if TYPE_CHECKING:
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.store.workspace import Workspace

LOOPBACK = "127.0.0.1"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_UUID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{7,63}")


class EndpointFolder:
    """Reads and writes the state of one endpoint; every file appears all at once or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.path.name

    @property
    def requests(self) -> Path:
        """Folder of the request log."""
        return self.path / "requests"

    @property
    def outcomes(self) -> Path:
        """Folder of what really happened."""
        return self.path / "outcomes"

    @property
    def log(self) -> Path:
        """What the host's processes printed."""
        return self.path / "host.log"

    def wanted(self) -> dict[str, Any]:
        """Return what was asked for last; empty when nothing was."""
        return _read(self.path / "wanted.json")

    def stamp(self) -> tuple[int, ...]:
        """Return what changes whenever something new is wanted, without reading it."""
        try:
            found = (self.path / "wanted.json").stat()
        except FileNotFoundError:
            return ()
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def is_over(self) -> bool:
        """Whether the host should end: it was told to stop, or the whole workspace was removed under it."""
        return not self.stamp() or bool(self.wanted().get("stopped"))

    @property
    def shares_move(self) -> bool:
        """Whether the shares of its models may have to be moved: there is a ramp, or one of them may fail."""
        wanted = self.wanted()
        return not self.is_over() and (bool(wanted.get("ramp")) or len(wanted.get("variants", [])) > 1)

    def want(self, state: Mapping[str, Any]) -> None:
        """Ask the host for a state; it follows within a tenth of a second."""
        _write(self.path / "wanted.json", state)

    def actual(self) -> dict[str, Any]:
        """Return what the host said last: {"generation", "serving", "error"}; empty before its first word."""
        return _read(self.path / "actual.json")

    def report(self, state: Mapping[str, Any]) -> None:
        """Say what the host does now."""
        _write(self.path / "actual.json", state)

    def report_of(self, replica: str, state: Mapping[str, Any]) -> None:
        """Say what one replica of several does now."""
        _write(self.path / "replicas" / f"{replica}.json", state)

    def replica(self, replica: str) -> dict[str, Any]:
        """Return what one replica of several said last; empty before its first word."""
        return _read(self.path / "replicas" / f"{replica}.json")

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Return what all replicas said last, by their names; those that are gone stay until they are forgotten."""
        return {path.stem: _read(path) for path in sorted((self.path / "replicas").glob("*.json"))}

    def forget_replicas(self, but: Collection[str] = ()) -> None:
        """Forget what replicas said, but for some."""
        for path in (self.path / "replicas").glob("*.json"):
            if path.stem not in but:
                path.unlink(missing_ok=True)

    @property
    def metrics(self) -> Path:
        """Folder of what several processes have counted."""
        return self.path / "metrics"

    @property
    def processes(self) -> int:
        """How many processes share the requests, here or on a cluster; one where nobody said more."""
        return int(self.wanted().get("replicas") or 1)

    @property
    def where(self) -> Cluster:
        """The cluster that the endpoint runs on, or did last; this machine where no other was named."""
        found = self.wanted().get("where")
        return Cluster.from_dict(found) if found else LOCAL

    @property
    def address(self) -> str | None:
        """What all of the endpoint's URLs begin with, once it was brought up."""
        if self.where != LOCAL:
            return _read(self.path / "address.json").get("address")
        if self.port is None:
            return None
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self.listen, self.listen)  # who listens everywhere is asked here
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def listen(self) -> str:
        """The address of this machine that the host listens on, or would: loopback where nobody said another."""
        return str(self.wanted().get("listen") or LOOPBACK)

    def found_at(self, address: str) -> None:
        """Say where the endpoint is asked, on a cluster."""
        _write(self.path / "address.json", {"address": address})

    def process(self) -> Process | None:
        """Return the host's identity if one was started; ask it whether it is alive."""
        found = _read(self.path / "process.json")
        return Process.from_dict(found) if found else None

    @property
    def port(self) -> int | None:
        """The port that the host listens on, or did last."""
        found = _read(self.path / "process.json")
        return int(found["port"]) if found else None

    def started(self, process: Process, port: int) -> None:
        """Say which process is the host and where it listens."""
        _write(self.path / "process.json", {**process.to_dict(), "port": port})

    @property
    def running(self) -> bool:
        """Whether the host process is alive and meant to be; on a cluster, whether it is meant to be, for nobody here sees it."""
        if not self.stamp() or self.wanted().get("stopped"):
            return False
        if self.where != LOCAL:
            return True
        process = self.process()
        return process is not None and process.alive

    def token(self) -> str:
        """Return the endpoint's token, making it at first use; readable by its owner only."""
        path = self.path / "token"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                return self.token()
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii").strip()

    def keep_token(self, token: str) -> None:
        """Take a token that was given from outside."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.path / "token").touch(mode=0o600)
        (self.path / "token").write_text(token, encoding="ascii")

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Hold the lock `name` of this endpoint while the block runs, waiting for whoever holds it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def locked(self, name: str) -> Iterator[bool]:
        """Hold the lock `name` of this endpoint while the block runs; gives False at once where another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)


def folder(workspace: Workspace, name: str) -> EndpointFolder:
    """Return the folder of the endpoint `name`, which may not exist yet.

    Raises:
        InvalidInputError: the name cannot be part of a URL.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} cannot name an endpoint.", "Use lower-case letters, digits, - and _, like delays.")
    return EndpointFolder(workspace.endpoints / name)


def names(workspace: Workspace) -> list[str]:
    """Return the names of the endpoints that were ever made in this workspace."""
    return sorted(path.parent.name for path in workspace.endpoints.glob("*/wanted.json"))


def answers(address: str | None) -> bool:
    """Whether the endpoint at this address says that it is ready."""
    import http.client  # hosts ask nobody, and there are many of them: what they do not import they do not hold
    from urllib.parse import urlsplit

    where = urlsplit(address or "")
    if not where.hostname:
        return False
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=2)
    try:
        connection.request("GET", f"{where.path}/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def newest(workspace: Workspace, name: str) -> Ref:
    """Return the exact reference of the newest deploy to an endpoint.

    Pins and the parent's records do not count: an endpoint is a running thing, and only this workspace's own can be asked.

    Raises:
        NotFoundError: nothing was deployed under that name here.
    """
    from jupyter_mlp.core.references import Ref

    name = Ref.parse(name, kind="endpoint").name
    found = workspace.activities.versions("endpoint", name, limit=1)
    if not found or not folder(workspace, name).wanted():
        hint = nearest(name, names(workspace)) or "Make one: %mlp_deploy MODEL --to NAME"
        raise NotFoundError(f"There is no endpoint {name} in this workspace.", hint)
    return found[0]


def model_folder(roots: list[Path], model: str) -> Path | None:
    """Return the folder of a model by its UUID below one of the roots, or None. Names that are no UUID find nothing."""
    if not _UUID.fullmatch(model):
        return None
    return next((root / model for root in roots if (root / model / "model.json").is_file()), None)


def model_roots(workspace: Workspace) -> list[Path]:
    """Return the folders that models of this workspace live in, its own first."""
    return [workspace.models, *(model_roots(workspace.parent) if workspace.parent else [])]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, state: Mapping[str, Any]) -> None:
    publish_bytes(path, json.dumps(state, indent=1, sort_keys=True).encode())
