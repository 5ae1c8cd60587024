"""Uvicorn's server, which takes connections that another process accepted, and stops accepting without losing one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial

import uvicorn

_TURNS = 10  # of the event loop, after which every connection that was accepted has its protocol: asyncio takes three, uvloop two


class Server(uvicorn.Server):
    """Serves on sockets that others hold, too.

    Args:
        accepted: connections whose clients may have written already.
    """

    servers: list[asyncio.AbstractServer]

    def __init__(self, config: uvicorn.Config, listening: Sequence[socket.socket], accepted: Sequence[socket.socket] = ()) -> None:
        super().__init__(config)
        self._listening = listening
        self._accepted = accepted

    async def answer(self) -> None:
        """Serve until told to end."""
        await self.serve(sockets=[one.dup() for one in self._listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and answer who was accepted before."""
        await super().startup(sockets=sockets)
        for one in self._accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol(), one)

    async def rest(self) -> bool:
        """End where nobody is connected, and say whether that is so; connections that come from now on wait in the socket's queue.

        Who was accepted in that very moment is served, and everybody after, as if nothing had been.
        """
        if self.server_state.connections:
            return False
        self.stop_accepting()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        if self.server_state.connections:
            await self._accept_again()
            return False
        self.should_exit = True
        return True

    def stop_accepting(self) -> None:
        """Take no more connections; those that were taken stay."""
        for server in self.servers:
            if isinstance(server, asyncio.base_events.Server):  # which, when it is closed, drops whom it has accepted a turn ago
                for one in server.sockets:
                    asyncio.get_running_loop().remove_reader(one.fileno())
            else:
                server.close()

    async def _accept_again(self) -> None:
        loop, backlog = asyncio.get_running_loop(), self.config.backlog
        try:
            self.servers = [await loop.create_server(self._protocol(), sock=one.dup(), backlog=backlog) for one in self._listening]
        except OSError:
            self.should_exit = True  # another process can
            raise

    def _protocol(self) -> partial[asyncio.Protocol]:
        return partial(
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
