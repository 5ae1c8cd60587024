"""One replica of an endpoint on Ray Serve: the same application as on this machine, in a process that Serve starts and heals.

    notebook --wanted.json (a folder that all nodes share)--> replica, replica, ... <--requests-- Serve's proxies <-- callers
                                                                  |  replicas/ID.json, requests/

Swaps, ramps and rollbacks reach every replica through the folder, so the application is deployed once and not again. A replica
that can load nothing does not come up, and Serve sends it no request.

What differs from this machine: the port is that of Serve's proxies, the endpoint lies below /NAME there, and a scrape of
/NAME/metrics counts what the one replica that it reached has answered; %mlp_monitor reads the logs of all of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import JobError, NotFoundError
from jupyter_mlp.serving.app import App, Receive, Scope, Send
from jupyter_mlp.serving.following import Follower
from jupyter_mlp.serving.requests_log import RequestLog
from jupyter_mlp.store.deployments import EndpointFolder

_log = logging.getLogger(__name__)
_LOOK_S = 0.05
_FLUSH_S = 0.5


class Replica:
    """An ASGI application that loads its models when its server starts it, and says that it cannot where it cannot.

    Args:
        name: of this replica, as Serve knows it.
        models: folders of models, each below its UUID.
    """

    def __init__(self, folder: EndpointFolder, models: list[Path], name: str) -> None:
        if folder.is_over():
            raise NotFoundError(f"The folder {folder.path} is not there on the node {socket.gethostname()}, or the endpoint was stopped.")
        self._folder = folder
        self._name = name
        self._log = RequestLog(folder.requests, writer=name)
        self._app = App(folder.name, folder.token(), self._log, RequestLog(folder.outcomes, files=1000, writer=name), f"/{folder.name}")
        self._follower = Follower(folder, models, self._app, self._report)
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose path begins with where the endpoint is mounted; or start and end with the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            mounted = scope.get("root_path", "")
            await self._app({**scope, "path": scope["path"].removeprefix(mounted) or "/"}, receive, send)

    def check(self) -> None:
        """Say whether requests are answered as they should be.

        Raises:
            JobError: no model is loaded, or the endpoint was stopped.
        """
        if self._app.serving is None or self._follower.stopped:
            raise JobError(f"A replica of {self._folder.name} serves nothing.")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._follower.begin()
        if self._app.serving is None:
            await send({"type": "lifespan.startup.failed", "message": "no model could be loaded"})
            return
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._flush())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in self._tasks:
            task.cancel()
        self._log.flush()
        self._follower.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._follower.look()
            except Exception as error:  # noqa: BLE001 - a disk that fails must not end the serving
                _log.warning("following wanted.json: %s", error)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._log.flush()

    def _report(self, told: Mapping[str, Any]) -> None:
        self._folder.report_of(self._name, {**told, "host": socket.gethostname()})


class Endpoint:
    """What Serve asks beside requests."""

    app: Replica  # Serve's ingress has it

    async def check_health(self) -> None:
        """Fail where the replica serves nothing: Serve then starts another in its place."""
        self.app.check()


def application(given: Mapping[str, Any]) -> Any:
    """Return the Serve application of an endpoint: what Serve is told to import.

    Args:
        given: {"folder", "models"}: the endpoint's folder, and the folders of models.
    """
    from ray import serve

    folder, models = str(given["folder"]), [str(path) for path in given["models"]]

    def made() -> Replica:  # runs in each replica
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        name = serve.get_replica_context().replica_id.unique_id
        return Replica(EndpointFolder(Path(folder)), [Path(path) for path in models], name)

    return serve.deployment(name="endpoint")(serve.ingress(made)(Endpoint)).bind()
