"""What answers at an endpoint's port while no model is in memory.

Health is answered here. It says ready, because every request will be answered, and cold, because the first takes as long as the
model loads. If a prober woke the model, it would be in memory for ever, and push out another that is used; if health said that
the endpoint is not ready, nobody who balances by it would send the request that wakes it. Whoever asks for anything else wakes the
model, and his connection, with what he has written, goes to the process that loads it. Who connects and says nothing wakes nobody.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

_HEALTH = tuple(
    f"{verb} {path} HTTP/1.".encode() for verb in ("GET", "HEAD") for path in ("/health", "/v2/health/live", "/v2/health/ready")
)
_BODY = b'{"live":true,"ready":true,"cold":true}'
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(_BODY)
_SILENT = 64  # connections that have said nothing; with more the model loads, which can hold more
_MOST = 8192  # bytes of a request for health


class Door:
    """Looks who comes to the sockets that an endpoint listens on."""

    def __init__(self, listening: Sequence[socket.socket]) -> None:
        self._listening = {one.fileno(): one for one in listening}
        self._silent: dict[int, socket.socket] = {}
        self._asking: list[socket.socket] = []
        self._poll = select.poll()
        for one in listening:
            one.setblocking(False)
            self._poll.register(one, select.POLLIN)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in (*self._silent.values(), *self._asking):
            one.close()

    def wait(self, within_s: float) -> bool:
        """Answer who asks for health; return whether somebody asks for more."""
        for descriptor, _ in self._poll.poll(within_s * 1000):
            if descriptor in self._listening:
                self._accept(self._listening[descriptor])
            else:
                self._hear(self._silent.pop(descriptor))
        return bool(self._asking) or len(self._silent) >= _SILENT

    def take(self) -> list[socket.socket]:
        """Return the connections that have to be answered by somebody else."""
        taken = [*self._asking, *self._silent.values()]
        self._asking, self._silent = [], {}
        return taken

    def _accept(self, listening: socket.socket) -> None:
        while len(self._silent) < _SILENT:
            try:
                found, _ = listening.accept()
            except OSError:  # nobody is left, or who was there has gone
                return
            self._poll.register(found, select.POLLIN)
            self._silent[found.fileno()] = found

    def _hear(self, who: socket.socket) -> None:
        self._poll.unregister(who)
        try:
            said = who.recv(_MOST, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:  # it went away
            said = b""
        if not said:
            who.close()
        elif said.startswith(_HEALTH) and said.find(b"\r\n\r\n") == len(said) - 4:
            with who, suppress(OSError):
                who.recv(len(said))
                who.sendall(_HEAD if said.startswith(b"HEAD") else _HEAD + _BODY)
                who.shutdown(socket.SHUT_WR)
        else:
            self._asking.append(who)
