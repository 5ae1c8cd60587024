"""A plain request to a quick model is answered by a callback: at once where it comes alone, with the others of its turn else.

Uvicorn makes a task for each request, which waits for the model's turn, wakes up and writes: more work than a small model. What
is not plain - another route, a large body, a slow model, a shadow, anything malformed - goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_MOST = 65_536  # bytes of a body that is answered so
_WHOLE = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"
_CLOSE = b"connection: close\r\n"


class Answers(Protocol):
    """What an application offers for it."""

    direct_urls: frozenset[bytes]

    def plain(self, headers: list[tuple[bytes, bytes]], body: bytes, write: Callable[[int, bytes], None]) -> Callable[[], None] | None:
        """Answer a whole request by `write(status, body)`, now or soon.

        Returns:
            What makes the answer come now; None where the request has to go the long way.
        """


class DirectProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a short way for plain requests, and an answer of the long way in one write.

    Its head and its body would cost two system calls, a fifth of a small answer's time.
    """

    app: Answers
    _plain: bytearray | None = None  # the body so far of a request that may go the short way
    _waits = False  # for an answer that comes soon
    _settle: Callable[[], None]  # makes it come now

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection."""
        super().connection_made(_Joined(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was half read."""
        self._plain = None
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Answer first what was asked first."""
        if self._waits:
            self._settle()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if self._may_be_plain():
            self._plain = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect a plain request's body, as far as it is small."""
        if self._plain is None:
            super().on_body(body)
            return
        self._plain += body
        if len(self._plain) > _MOST:
            self._go_the_long_way()

    def on_message_complete(self) -> None:
        """Answer, or let uvicorn."""
        if self._plain is not None:
            self._waits = True
            settle = self.app.plain(self.headers, bytes(self._plain), partial(self._write, self.parser.should_keep_alive()))
            if settle is not None:
                self._plain, self._settle = None, settle
                return
            self._waits = False
            self._go_the_long_way()
        super().on_message_complete()

    def shutdown(self) -> None:
        """End when the request that is being read is answered."""
        if self._waits:
            self._settle()
        if self._plain is not None:
            self._go_the_long_way()
        super().shutdown()

    def _may_be_plain(self) -> bool:
        return (
            self.url in self.app.direct_urls
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)  # answers go out in the order of the requests
            and not self.flow.write_paused
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
        )

    def _go_the_long_way(self) -> None:
        body, self._plain = self._plain, None
        super().on_headers_complete()
        if body:
            super().on_body(bytes(body))

    def _write(self, stays: bool, status: int, body: bytes) -> None:
        """Write, and do as uvicorn's cycle does at its end."""
        self._waits = False
        if self.transport.is_closing():
            return
        self.transport.write_now(_WHOLE % (STATUS_LINE[status], len(body), b"" if stays else _CLOSE, body))
        if not stays:
            self.transport.close()
        self.on_response_complete()


class _Joined:
    """A transport whose writes of one turn leave together."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._soon(self._flush)
        self._waiting.append(data)

    def write_now(self, data: bytes) -> None:
        self._waiting.append(data)
        self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
