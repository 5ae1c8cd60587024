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
        return [socket.socket(fileno=descriptor) for descriptor in inherited]
    found = [_bound(folder, int(folder.wanted().get("port") or 0))]
    for _ in range(1, folder.processes):
        _share(found[0])  # only when it has the port for itself, or it would share that with whoever has it
        found.append(_bound(folder, found[0].getsockname()[1], shared=True))
    for one in found:
        one.listen(_QUEUE)
    return found


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
