"""The host of one endpoint: a small parent that owns the port and lets another process serve when the serving one dies.

    deploy() --wanted.json--> serving process <--requests-- port <--owned by-- parent
                                    |  actual.json, requests/                    |
                                    +-- dies: the next one, which stands by, serves

Connections that arrive while no serving process lives wait in the socket's queue, for as long as models take to load: the
process that stands by has imported everything else. If the parent is killed, the serving process starts a new
one on the same socket and makes room for its child. Nothing here needs a kernel or JupyterLab.

    python -m jupyter_mlp.serving.host ENDPOINT_FOLDER MODELS_ROOT...
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from jupyter_mlp.serving import ramp_keeper
from jupyter_mlp.serving.folding import Folding
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import identify

_log = logging.getLogger(__name__)
_QUICK_DEATH_S = 5.0
_CALM_S = 3.0  # for which a process serves before the next one is made ready: not while it has its hands full
_KEEP_S = 1.0
_CRASHES = 3  # in a row, before the last good models are taken instead of the wanted ones


def main(arguments: list[str] | None = None) -> int:
    """Host an endpoint until it is stopped; return the exit status."""
    parser = argparse.ArgumentParser(prog="jupyter_mlp.serving.host")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--socket", type=int, help="a listening socket to take over")
    parser.add_argument("--wait", action="store_true", help="while another host serves, wait until it is gone")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder = EndpointFolder(given.folder)
    if given.wait:
        _wait(folder)
    with folder.locked("host") as mine:
        if not mine:
            _log.warning("another host serves this endpoint")
            return 3
        try:
            listening = _listen(folder, given.socket)
        except OSError as error:
            folder.report({"generation": folder.wanted().get("generation", 0), "serving": [], "error": f"port: {error.strerror}"})
            return 4
        folder.started(identify(os.getpid()), listening.getsockname()[1])
        return _Parent(folder, [str(path) for path in given.models], listening).run()


def _wait(folder: EndpointFolder) -> None:
    """Return when nobody hosts the endpoint any more, or nobody should."""
    while not folder.is_over():
        with folder.locked("host") as mine:
            if mine and _is_free(folder):  # a serving process that outlives its parent holds the port, and finds itself another
                return
        time.sleep(_KEEP_S)


def _is_free(folder: EndpointFolder) -> bool:
    try:
        _listen(folder, None).close()
    except OSError:
        return False
    return True


def _listen(folder: EndpointFolder, inherited: int | None) -> socket.socket:
    if inherited is not None:
        return socket.socket(fileno=inherited)
    address = folder.listen
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, int(folder.wanted().get("port") or 0)))
    listening.listen(2048)
    return listening


class _Parent:
    def __init__(self, folder: EndpointFolder, models: list[str], listening: socket.socket) -> None:
        self._folder = folder
        self._models = models
        self._socket = listening
        self._child: subprocess.Popen[bytes] | None = None
        self._next: subprocess.Popen[bytes] | None = None
        self._folding = Folding(folder)
        self._ending = False

    def run(self) -> int:
        """Keep one serving process alive until told to end."""
        try:
            return self._run()
        finally:
            self._dismiss()

    def _run(self) -> int:
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        crashes = 0
        while not self._ending and not self._folder.is_over():
            begun = time.monotonic()
            self._child = self._start(last_good=crashes >= _CRASHES)
            status = self._watched(self._child, begun)
            if self._ending or self._folder.is_over():
                break
            crashes = crashes + 1 if time.monotonic() - begun < _QUICK_DEATH_S else 0
            _log.warning("serving process %d ended with %d; starting another", self._child.pid, status)
            if crashes:
                time.sleep(min(0.05 * 2**crashes, 2.0))
        return 0

    def _watched(self, child: subprocess.Popen[bytes], begun: float) -> int:
        """Wait for the end of the serving process; meanwhile move ramps on, traffic back from what fails, and full logs into the lake."""
        while True:
            if _has_ended(child, _KEEP_S):
                return child.wait()
            if self._ending or self._folder.is_over():
                return child.wait()
            if (self._next is None or self._next.poll() is not None) and time.monotonic() > begun + _CALM_S:
                self._next = self._made_ready()
            if ramp_keeper.is_needed(self._folder):
                try:
                    ramp_keeper.keep(self._folder)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with the records, serving goes on
                    _log.warning("the shares stay as they are: %s", error)
            try:
                self._folding.look()
            except OSError as error:
                _log.warning("the log stays as it is: %s", error)

    def _start(self, last_good: bool) -> subprocess.Popen[bytes]:
        """Let the process that stands by serve, or a new one where there is none."""
        found, self._next = self._next, None
        if found is None or found.poll() is not None:
            found = self._made_ready()
        assert found.stdin is not None
        with suppress(BrokenPipeError), found.stdin:  # it may have been killed just now: its end is noticed like any other
            found.stdin.write(b"--last-good\n" if last_good else b"\n")
        return found

    def _made_ready(self) -> subprocess.Popen[bytes]:
        """Start a process that imports what serving needs, and waits to be told what to serve."""
        descriptor = self._socket.fileno()
        argv = [sys.executable, "-m", "jupyter_mlp.serving.child", str(self._folder.path), *self._models, "--socket", str(descriptor)]
        return subprocess.Popen([*argv, "--parent", str(os.getpid()), "--standby"], pass_fds=[descriptor], stdin=subprocess.PIPE)

    def _dismiss(self) -> None:
        """End the process that stands by, which has the port open; it ends by itself where we are killed."""
        if self._next is not None:
            self._next.kill()
            self._next.wait()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            # The main loop's wait() returns when the child is gone; a child that hangs is not waited for.
            signal.signal(signal.SIGALRM, lambda *_: child.kill())
            signal.alarm(8)


def _has_ended(child: subprocess.Popen[bytes], within_s: float) -> bool:
    """Wait for the end of a child; Popen's own wait() with a limit looks every 50 ms only."""
    if not hasattr(os, "pidfd_open"):  # not on Linux
        with suppress(subprocess.TimeoutExpired):
            child.wait(within_s)
        return child.returncode is not None
    handle = os.pidfd_open(child.pid)
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
