"""A serving process: HTTP and the models in one process; follows `wanted.json` without dropping a request."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from jupyter_mlp.serving import warmth
from jupyter_mlp.serving.accepting import Server
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.direct import DirectProtocol
from jupyter_mlp.serving.following import Follower
from jupyter_mlp.serving.requests_log import RequestLog
from jupyter_mlp.serving.siblings import Sibling
from jupyter_mlp.serving.slots import LEAVE, REST
from jupyter_mlp.serving.sums import Sums
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.leases import Lease

_log = logging.getLogger(__name__)
_LOOK_S = 0.05
_FLUSH_S = 0.5
_LEAVE_S = 5.0  # for which connections that are idle are left open when another process serves in the place of this one
_SWITCH_S = 0.0005  # a thread that loads another model gives way to requests after this, not after Python's 5 ms


class Child:
    """One serving process of an endpoint.

    Args:
        sockets: all of the endpoint's. `slot`: the place of this process. `of`: how many there are; they share the sockets.
    """

    def __init__(
        self,
        folder: EndpointFolder,
        models: list[Path],
        sockets: Sequence[socket.socket],
        slot: int,
        of: int,
        parent: int,
        with_parent: bool = False,
    ) -> None:
        self._folder = folder
        self._models = models
        self._sockets = sockets
        self._served = list(sockets[slot::of])
        self._parent = parent
        self._with_parent = with_parent
        self._sibling = Sibling(folder, slot, of)
        writer = self._sibling.writer
        self._log = RequestLog(folder.requests, writer=writer)
        outcomes = RequestLog(folder.outcomes, files=1000, writer=writer)
        sums = Sums(folder, slot) if of > 1 else None
        self._app = App(folder.name, folder.token(), self._log, outcomes, sums=sums)
        self._follower = Follower(folder, models, self._app, self._sibling.report)
        self._host: subprocess.Popen[bytes] | None = None
        self._heir = Lease(folder.path / "heir.lock")  # one of the processes starts another parent
        self._inherits = False
        self._asked_to_leave = False
        self._leaves_until: float | None = None
        self._asked_to_rest = False
        self._rests = False

    async def run(self, last_good: bool, accepted: Sequence[socket.socket] = ()) -> int:
        """Load the wanted models, then serve until told to end, to leave or to rest; return the exit status.

        Args:
            accepted: connections that wait for the models.
        """
        asyncio.get_running_loop().add_signal_handler(REST, self._ask_to_rest)
        warmth.note_use(self._folder)
        asyncio.get_running_loop().add_signal_handler(LEAVE, self._ask_to_leave)
        await self._follower.begin(last_good)
        gc.collect()
        gc.freeze()  # what is loaded stays: no request waits while a collection walks all of it
        server = Server(_config(self._app), self._served, accepted)
        following = asyncio.create_task(self._watch(server))
        flushing = asyncio.create_task(self._flush(server))
        try:
            await server.answer()
        finally:
            following.cancel()
            flushing.cancel()
            self._log.flush()
            self._app.share()
            self._follower.close()
        return warmth.RESTS if self._rests else 0

    async def _watch(self, server: Server) -> None:
        while not server.should_exit:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._follower.look()
                self._look_around(server)
                if self._asked_to_rest and server.started and self._leaves_until is None and os.getppid() == self._parent:
                    self._asked_to_rest = False
                    self._rests = await server.rest()
            except Exception as error:  # noqa: BLE001 - a disk that fails must not end the serving
                _log.warning("following wanted.json: %s", error)
            server.should_exit = server.should_exit or self._follower.stopped

    def _look_around(self, server: Server) -> None:
        """End where the parent did and nobody else needs this process; leave where another serves in its place."""
        if self._leaves_until is not None:
            if not server.server_state.connections or time.monotonic() > self._leaves_until:
                server.should_exit = True
        elif self._asked_to_leave and server.started:
            self._leave(server)
        elif os.getppid() != self._parent:
            if self._with_parent:
                server.should_exit = True
            elif self._replace_parent():
                self._leave(server)

    def _ask_to_leave(self) -> None:
        self._asked_to_leave = True

    def _ask_to_rest(self) -> None:
        self._asked_to_rest = True

    def _leave(self, server: Server) -> None:
        """Take no more connections, and let each that is open end with its next answer."""
        self._leaves_until = time.monotonic() + _LEAVE_S
        self._sibling.silent = True
        server.stop_accepting()
        self._app.leave()

    async def _flush(self, server: Server) -> None:
        answered, connected = 0, set[object]()
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._log.flush()
            self._app.share()
            state = server.server_state
            before, answered = answered, state.total_requests - self._app.probes
            stayed, connected = connected & state.connections, set(state.connections)
            if answered != before or stayed:
                warmth.note_use(self._folder)

    def _replace_parent(self) -> bool:
        """The parent was killed: have another on the same sockets; True when its child serves here and this one may go."""
        if not self._is_hosted():
            if not self._inherits and not self._heir.held:  # who only looks does not wait, for requests come in meanwhile
                self._inherits = self._heir.take() is not None
            if self._inherits and (self._host is None or self._host.poll() is not None):
                self._host = self._started()
        return self._sibling.is_succeeded(os.getpid())

    def _is_hosted(self) -> bool:
        """Whether another parent lives already."""
        process = self._folder.process()
        return process is not None and process.pid != self._parent and process.alive

    def _started(self) -> subprocess.Popen[bytes]:
        descriptors = [one.fileno() for one in self._sockets]
        argv = [sys.executable, "-m", "jupyter_mlp.serving.host", str(self._folder.path), *map(str, self._models)]
        argv += [f"--socket={descriptor}" for descriptor in descriptors]
        return subprocess.Popen(argv, pass_fds=descriptors, stdin=subprocess.DEVNULL, start_new_session=True)


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=DirectProtocol,
        loop="auto",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        proxy_headers=False,  # nothing here asks who called
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than clients keep idle connections, or one closes just as it is used
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve one endpoint in one of its places, on the parent's sockets that belong to it; return the exit status."""
    parser = argparse.ArgumentParser(prog="jupyter_mlp.serving.child")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--socket", type=int, action="append", required=True)
    parser.add_argument("--accepted", type=int, action="append", default=[], help="a connection that waits for an answer")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--last-good", action="store_true")
    parser.add_argument(
        "--standby", action="store_true", help="import everything, then serve when a line comes on stdin: SLOT OF [--last-good]"
    )
    parser.add_argument("--with-parent", action="store_true", help="end when the parent does, and start no other")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.setswitchinterval(_SWITCH_S)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until uvicorn puts its own handler in place
    _import_the_rest()
    slot, of = 0, 1
    if given.standby:
        words = sys.stdin.readline().split()
        if not words:
            return 0  # whoever started us is gone
        slot, of, given.last_good = int(words[0]), int(words[1]), "--last-good" in words
    sockets = [socket.socket(fileno=descriptor) for descriptor in given.socket]
    accepted = [socket.socket(fileno=descriptor) for descriptor in given.accepted]
    for descriptor in (*given.socket, *given.accepted):
        os.set_inheritable(descriptor, False)  # worker processes of models must not hold the port

    async def serve() -> int:
        child = Child(EndpointFolder(given.folder), given.models, sockets, slot, of, given.parent, given.with_parent)
        return await child.run(given.last_good, accepted)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve())


def _import_the_rest() -> None:
    """Import what is needed with the first model at the latest."""
    with suppress(ImportError):  # a model that runs its author's code does not need it
        import onnxruntime  # noqa: F401
    _loop_factory()
    gc.collect()
    gc.freeze()  # so that serving need not wait until it is looked through


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
