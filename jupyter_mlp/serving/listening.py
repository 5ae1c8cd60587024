"""The port of an endpoint: one listening socket, or one a process where several share it.

The system deals new connections out to the sockets by where they come from. All of them stay open in the parent and in every serving
process, so connections to one that died wait in its socket's queue for the next, and whoever is left can hand all of them on.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from jupyter_mlp.store.deployments import EndpointFolder

_QUEUE = 2048  # connections that wait while no process takes them


def opened(folder: EndpointFolder, inherited: Sequence[int] = ()) -> list[socket.socket]:
    """Return the listening sockets of an endpoint, as many as processes are wanted; those that are handed over, where there are some.

    Raises:
        OSError: somebody else has the port.
    """
    if inherited:
        found = [socket.socket(fileno=descriptor) for descriptor in inherited]
        return [*found, *more(folder, found)]
    found = [_bound(folder, int(folder.wanted().get("port") or 0))]
    found += more(folder, found)
    for one in found:
        one.listen(_QUEUE)
    return found


def more(folder: EndpointFolder, sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Return as many sockets as an endpoint has too few for the processes that are wanted; none is dealt connections before it listens."""
    missing = folder.processes - len(sockets)
    if missing <= 0:
        return []
    for one in sockets:
        _share(one)  # only now that the port is ours, or we would share it with whoever has it
    return [_bound(folder, sockets[0].getsockname()[1], shared=True) for _ in range(missing)]


def is_free(folder: EndpointFolder) -> bool:
    """Whether nobody has the port of an endpoint."""
    try:
        _bound(folder, int(folder.wanted().get("port") or 0)).close()
    except OSError:
        return False
    return True


def _bound(folder: EndpointFolder, port: int, shared: bool = False) -> socket.socket:
    address = folder.listen
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            _share(found)
        found.bind((address, port))
    except OSError:
        found.close()
        raise
    return found


def _share(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
