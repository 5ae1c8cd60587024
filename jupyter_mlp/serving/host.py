"""The host of one endpoint: a small parent that owns the port and lets another process serve when a serving one dies.

    deploy() --wanted.json--> serving processes <--requests-- port <--owned by-- parent
                                    |  actual.json, requests/                    |
                                    +-- one dies: the next, which stands by, serves

Connections that arrive while no serving process lives wait in the socket's queue, for as long as models take to load: the
process that stands by has imported everything else. If the parent is killed, a serving process starts a new one on the same
sockets, and each makes room for its successor. Nothing here needs a kernel or JupyterLab.

Where several processes share the port each has a socket of its own (listening.py), and one stands by for all. Where another number is
wanted so many come up beside them, and those that served leave when all have followed; no socket is closed, because connections may
wait in its queue: fewer processes share them.

    python -m jupyter_mlp.serving.host ENDPOINT_FOLDER MODELS_ROOT...
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from jupyter_mlp.serving import listening, ramp_keeper, slots
from jupyter_mlp.serving.folding import Folding
from jupyter_mlp.serving.slots import Slot
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import identify

_log = logging.getLogger(__name__)
_CALM_S = 3.0  # for which all processes serve before the next one is made ready: not while they have their hands full
_KEEP_S = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Host an endpoint until it is stopped; return the exit status."""
    parser = argparse.ArgumentParser(prog="jupyter_mlp.serving.host")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--socket", type=int, action="append", default=[], help="a listening socket to take over")
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
            sockets = listening.opened(folder, given.socket)
        except OSError as error:
            folder.report({"generation": folder.wanted().get("generation", 0), "serving": [], "error": f"port: {error.strerror}"})
            return 4
        folder.started(identify(os.getpid()), sockets[0].getsockname()[1])
        return _Parent(folder, [str(path) for path in given.models], sockets).run()


def _wait(folder: EndpointFolder) -> None:
    """Return when nobody hosts the endpoint any more, or nobody should."""
    while not folder.is_over():
        with folder.locked("host") as mine:
            if mine and listening.is_free(folder):  # a serving process that outlives its parent holds the port, and finds itself another
                return
        time.sleep(_KEEP_S)


class _Parent:
    def __init__(self, folder: EndpointFolder, models: list[str], sockets: Sequence[socket.socket]) -> None:
        self._folder = folder
        self._models = models
        self._sockets = [*sockets]
        self._slots = self._places()
        self._dealt = len(sockets)  # that the processes there share
        self._coming: list[Slot] = []  # places of processes that will serve instead
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._next: subprocess.Popen[bytes] | None = None
        self._folding = Folding(folder)
        self._ending = False
        self._look_at = time.monotonic() + _KEEP_S

    def run(self) -> int:
        """Keep a process serving on each socket until told to end."""
        try:
            self._run()
        finally:
            self._dismiss()
        return 0

    def _run(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        while not self._is_over():
            for slot in self._all():
                if slot.is_due:
                    slot.begin(self._successor())
            slots.wait(self._all(), _KEEP_S)
            self._note_ends()
            if time.monotonic() >= self._look_at and not any(slot.is_due for slot in self._all()):
                self._look_after()
                self._look_at = time.monotonic() + _KEEP_S
        if self._ending:
            self._ask_to_end()  # also one that began to serve just when we were told
        for child in self._children():
            child.wait()

    def _is_over(self) -> bool:
        return self._ending or self._folder.is_over()

    def _all(self) -> list[Slot]:
        return [*self._slots, *self._coming]

    def _places(self) -> list[Slot]:
        wanted = self._folder.processes
        return [Slot(number, wanted) for number in range(wanted)]

    def _note_ends(self) -> None:
        self._leaving = [child for child in self._leaving if child.poll() is None]
        for slot in self._all():
            child, status = slot.child, slot.end()
            if child is not None and status is not None and not self._is_over():
                _log.warning("serving process %d ended with %d; starting another", child.pid, status)

    def _look_after(self) -> None:
        """Make the next process ready, move ramps on, traffic back from what fails, and full logs into the lake."""
        self._resize()
        if not self._stands_by() and all(slot.is_calm(_CALM_S) for slot in self._all()):
            self._next = self._made_ready()
        if ramp_keeper.is_needed(self._folder) and not self._coming:
            try:
                ramp_keeper.keep(self._folder)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the records, serving goes on
                _log.warning("the shares stay as they are: %s", error)
        try:
            self._folding.look()
        except OSError as error:
            _log.warning("the log stays as it is: %s", error)

    def _resize(self) -> None:
        """Have as many processes as are wanted: they come up beside those that serve, which leave when all of them have followed."""
        wanted = self._folder.processes
        if self._coming and len(self._coming) != wanted:  # put back, or changed again
            self._leave(self._coming)
            self._coming = []
        if self._coming:
            if all(self._has_followed(slot) for slot in self._coming):
                self._leave(self._slots)
                self._slots, self._coming, self._dealt = self._coming, [], len(self._sockets)
        elif (len(self._slots), self._dealt) != (wanted, len(self._sockets)) and self._is_settled():
            self._sockets += listening.more(self._folder, self._sockets)
            self._dismiss()  # who stands by does not have all the sockets
            self._coming = self._places()

    def _is_settled(self) -> bool:
        """Whether those that serve do what is wanted otherwise: models that they refuse are not for others either."""
        actual = self._folder.actual()
        return actual.get("generation") == self._folder.wanted().get("generation", -1) and not actual.get("error")

    def _has_followed(self, slot: Slot) -> bool:
        said = self._folder.actual() if len(self._coming) == 1 else self._folder.replica(str(slot.number))
        return slot.child is not None and said.get("pid") == slot.child.pid and not said.get("error")

    def _leave(self, places: Sequence[Slot]) -> None:
        for slot in places:
            if slot.child is not None:
                slot.leave()
                self._leaving.append(slot.child)

    def _stands_by(self) -> bool:
        return self._next is not None and self._next.poll() is None

    def _successor(self) -> subprocess.Popen[bytes]:
        """Return the process that stands by, or a new one where there is none."""
        found, self._next = self._next if self._stands_by() else None, None
        return found or self._made_ready()

    def _made_ready(self) -> subprocess.Popen[bytes]:
        """Start a process that imports what serving needs, and waits to be told where it serves."""
        descriptors = [one.fileno() for one in self._sockets]
        argv = [sys.executable, "-m", "jupyter_mlp.serving.child", str(self._folder.path), *self._models]
        argv += [f"--socket={descriptor}" for descriptor in descriptors]
        return subprocess.Popen([*argv, "--parent", str(os.getpid()), "--standby"], pass_fds=descriptors, stdin=subprocess.PIPE)

    def _dismiss(self) -> None:
        """End the process that stands by, which has the port open; it ends by itself where we are killed."""
        if self._next is not None:
            self._next.kill()
            self._next.wait()
            self._next = None

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        self._ask_to_end()
        # The main loop waits until the children are gone; those that hang are not waited for.
        signal.signal(signal.SIGALRM, self._kill)
        signal.alarm(8)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        for child in self._children():
            child.kill()

    def _ask_to_end(self) -> None:
        for child in self._children():
            child.terminate()

    def _children(self) -> list[subprocess.Popen[bytes]]:
        return [*(slot.child for slot in self._all() if slot.child is not None), *self._leaving]


if __name__ == "__main__":
    sys.exit(main())
