"""The host of one endpoint: a small parent that owns the port and lets another process serve when a serving one dies.

    deploy() --wanted.json--> serving processes <--requests-- port <--owned by-- parent
                                    |  actual.json, requests/                    |
                                    +-- one dies: the next, which stands by, serves
                                    +-- all rest, because memory is short: the next request has others started (warmth.py)

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
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from jupyter_mlp.serving import listening, slots, warmth
from jupyter_mlp.serving.door import Door
from jupyter_mlp.serving.folding import Folding
from jupyter_mlp.serving.slots import REST, Slot
from jupyter_mlp.serving.warmth import Advice, Warmth
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import this_process

_log = logging.getLogger(__name__)
_CALM_S = 3.0  # for which all processes serve before the next one is made ready: not while they have their hands full
_KEEP_S = 1.0
_REST_S = 0.5  # between two looks at what is wanted, while no model is in memory
_HAND_S = 0.05  # between two looks whether connections that were handed over are held by their process
_SEARCH_S = 2.0  # between two looks whether the host of a cold endpoint was killed
_TOGETHER_S = 1.0  # in which all processes go to rest; where one has to stay, the others are started again


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
        folder.started(this_process(), sockets[0].getsockname()[1])
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
        self._warmth = Warmth(folder)
        self._handed: list[socket.socket] = []  # connections for the first slot; open here, too, until its process has loaded its models
        self._search_at = 0.0
        self._others: set[int] = set()  # hosts of other endpoints that were started here
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
        self._say(warmth.LOADING)
        while not self._is_over():
            for slot in self._all():
                if slot.is_due:
                    slot.begin(self._successor(slot))
            slots.wait(self._all(), _HAND_S if self._handed else _KEEP_S)
            if self._has_loaded(self._slots[0]):  # before that it has read nothing, and another one can take the connections
                self._let_go()
            self._note_ends()
            if all(slot.rests for slot in self._slots):
                self._rest()
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
            if child is None or status is None or self._is_over():
                continue
            if status == warmth.RESTS:
                slot.rest(_TOGETHER_S)
            else:
                _log.warning("serving process %d ended with %d; starting another", child.pid, status)

    def _look_after(self) -> None:
        """Make the next process ready, move ramps on, traffic back from what fails, and full logs into the lake."""
        self._resize()
        moves = self._folder.shares_move
        advice = self._advised(moves)
        if not advice.stands_by:
            self._dismiss()
        elif not self._stands_by() and all(slot.is_calm(_CALM_S) for slot in self._all()):
            self._next = self._made_ready()
        if advice.goes_cold:
            for child in self._children():
                child.send_signal(REST)
        if moves and not self._coming:
            self._move_shares()
        self._fold()
        self._start_orphans()

    def _advised(self, moves: bool) -> Advice:
        """What to do about the memory that all endpoints take."""
        serving = [child.pid for child in self._children()]
        standby = self._next.pid if self._next is not None and self._stands_by() else None
        ready = not self._coming and not self._leaving and all(map(self._has_loaded, self._slots))
        try:
            return self._warmth.look(serving, standby, ready, moves)
        except OSError as error:
            _log.warning("what other endpoints take is not known: %s", error)
            return Advice(stands_by=True, goes_cold=False)

    def _move_shares(self) -> None:
        from jupyter_mlp.serving import ramp_keeper  # the records take half as much memory as all else here, and few endpoints move

        try:
            ramp_keeper.keep(self._folder)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the records, serving goes on
            _log.warning("the shares stay as they are: %s", error)

    def _fold(self) -> None:
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
            if all(self._has_loaded(slot) and not self._said(slot).get("error") for slot in self._coming):
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

    def _said(self, slot: Slot) -> dict[str, Any]:
        return self._folder.actual() if slot.of == 1 else self._folder.replica(str(slot.number))

    def _has_loaded(self, slot: Slot) -> bool:
        return slot.child is not None and self._said(slot).get("pid") == slot.child.pid

    def _leave(self, places: Sequence[Slot]) -> None:
        for slot in places:
            if slot.child is not None:
                slot.leave()
                self._leaving.append(slot.child)

    def _rest(self) -> None:
        """Hold the port while no model is in memory, until somebody asks or something else is wanted; then have all slots served."""
        _log.info("memory is short: the models load again with the next request")
        self._dismiss()
        with Door(self._sockets) as door:
            while not (self._is_over() or warmth.is_behind(self._folder)):
                self._say(warmth.COLD)
                if door.wait(_REST_S):
                    break
                self._fold()
                self._start_orphans()
            self._handed = door.take()
        self._say(warmth.LOADING)
        for slot in self._slots:
            slot.wake()

    def _start_orphans(self) -> None:
        """Start the hosts of cold endpoints again that were killed: they have nobody else."""
        self._others = {pid for pid in self._others if not _is_reaped(pid)}
        if time.monotonic() < self._search_at:  # there may be fifty hosts that look at fifty endpoints
            return
        self._search_at = time.monotonic() + _SEARCH_S
        for folder in self._warmth.orphans():
            from jupyter_mlp.serving import control

            _log.warning("the host of %s was killed; starting another", folder.name)
            with suppress(OSError):
                self._others.add(control.start(folder).pid)

    def _say(self, state: str) -> None:
        with suppress(OSError):  # the workspace may be gone, which ends us, or its disk full, which does not
            self._warmth.say(state)

    def _let_go(self) -> None:
        for one in self._handed:
            one.close()
        self._handed = []

    def _stands_by(self) -> bool:
        return self._next is not None and self._next.poll() is None

    def _successor(self, slot: Slot) -> subprocess.Popen[bytes]:
        """Return the process that stands by, or a new one where there is none, or where it is to have connections that wait."""
        if self._handed and slot is self._slots[0]:
            return self._made_ready(self._handed)
        found, self._next = self._next if self._stands_by() else None, None
        return found or self._made_ready()

    def _made_ready(self, accepted: Sequence[socket.socket] = ()) -> subprocess.Popen[bytes]:
        """Start a process that imports what serving needs, and waits to be told where it serves."""
        descriptors, waiting = [one.fileno() for one in self._sockets], [one.fileno() for one in accepted]
        argv = [sys.executable, "-m", "jupyter_mlp.serving.child", str(self._folder.path), *self._models]
        argv += [*(f"--socket={descriptor}" for descriptor in descriptors), *(f"--accepted={descriptor}" for descriptor in waiting)]
        argv += ["--parent", str(os.getpid()), "--standby"]
        return subprocess.Popen(argv, pass_fds=[*descriptors, *waiting], stdin=subprocess.PIPE)

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


def _is_reaped(pid: int) -> bool:
    """Whether a process that was started here has ended and left nothing: who stops it waits for that."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


if __name__ == "__main__":
    sys.exit(main())
