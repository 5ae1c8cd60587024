"""The serving process: HTTP and the models in one process; follows `wanted.json` without dropping a request.

A swap loads and warms the new models beside the old ones, checks each on the example of its card and on requests that
were recorded here, and then replaces one reference. Requests under way finish on the models they began with. A model
that fails any step never gets a request.
"""

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from jupyter_mlp.core.errors import MLPError, NotFoundError
from jupyter_mlp.serving import lookups, routing, trials
from jupyter_mlp.serving.app import App, Serving
from jupyter_mlp.serving.batching import Batcher
from jupyter_mlp.serving.lookups import Lookup
from jupyter_mlp.serving.one_write import OneWriteProtocol
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.serving.requests_log import RequestLog
from jupyter_mlp.store.deployments import EndpointFolder, model_folder

_log = logging.getLogger(__name__)
_LOOK_S = 0.05
_FLUSH_S = 0.5
_ANSWERED_S = 30.0  # by then every question that a store was asked is answered


class Child:
    """One serving process of an endpoint."""

    def __init__(
        self, folder: EndpointFolder, models: list[Path], listening: socket.socket, parent: int, with_parent: bool = False
    ) -> None:
        self._folder = folder
        self._models = models
        self._socket = listening
        self._parent = parent
        self._with_parent = with_parent
        self._log = RequestLog(folder.requests)
        self._app = App(folder.name, folder.token(), self._log, RequestLog(folder.outcomes, files=1000))
        self._seen: tuple[int, ...] = ()
        self._stopped = False
        self._replaced = False

    async def run(self, last_good: bool) -> None:
        """Load the wanted models, then serve until told to end."""
        if last_good:
            await self._fall_back("The serving process died three times in a row with the wanted models.")
        else:
            await self._follow()
            if self._app.serving is None:
                await self._fall_back(None)
        gc.collect()
        gc.freeze()  # what is loaded stays: no request waits while a collection walks all of it
        server = uvicorn.Server(_config(self._app))
        following = asyncio.create_task(self._watch(server))
        flushing = asyncio.create_task(self._flush())
        try:
            await server.serve(sockets=[self._socket])
        finally:
            following.cancel()
            flushing.cancel()
            self._log.flush()
            for batcher in (self._app.serving.batchers if self._app.serving else {}).values():
                batcher.retire()

    async def _watch(self, server: uvicorn.Server) -> None:
        while not server.should_exit:
            await asyncio.sleep(_LOOK_S)
            try:
                if self._folder.stamp() != self._seen:
                    await self._follow()
                if os.getppid() != self._parent:
                    server.should_exit = self._with_parent or self._replace_parent()
            except Exception as error:  # noqa: BLE001 - a disk that fails must not end the serving
                _log.warning("following wanted.json: %s", error)
            server.should_exit = server.should_exit or self._stopped

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._log.flush()

    async def _follow(self) -> None:
        """Bring what is served to what is wanted, or say why not and go on as before."""
        self._seen = self._folder.stamp()
        wanted = self._folder.wanted()
        self._stopped = self._folder.is_over()
        generation = int(wanted.get("generation", 0))
        if self._stopped or (self._app.serving and self._app.serving.generation == generation):
            return
        self._app.access.open(wanted.get("open_pages", ()))
        error = await self._swap(generation, wanted.get("variants", []), wanted.get("store"))
        self._report(generation, error)

    async def _fall_back(self, why: str | None) -> None:
        """Serve what was served last, because what is wanted cannot be."""
        self._seen = self._folder.stamp()
        before = self._folder.actual()
        generation = int(self._folder.wanted().get("generation", 0))
        if why is None:
            why = before.get("error")
        if before.get("last_good"):
            error = await self._swap(generation, before["last_good"], self._folder.wanted().get("store"))
            why = why if error is None else f"{why} The last good ones fail too: {error}"
        self._report(generation, why)

    async def _swap(self, generation: int, wanted: list[Mapping[str, Any]], store: Mapping[str, Any] | None = None) -> str | None:
        """Replace the models and what is known by key; return what is wrong with the new ones, having changed nothing, or None."""
        old = self._app.serving
        new: dict[str, Batcher] = {}
        known = dict(old.batchers) if old else {}
        try:
            variants = routing.read(wanted)
            for variant in variants:
                new[variant.model] = known.get(variant.model) or Batcher(await asyncio.to_thread(self._load, variant.model))
            lookup = await self._lookup(store, variants)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a model must not reach the requests
            for model in new.keys() - known.keys():
                new[model].retire()
            return error.message if isinstance(error, MLPError) else f"{type(error).__name__}: {error}"
        self._app.serving = Serving(generation, routing.Router(variants, self._folder.name), new, lookup)
        for model in known.keys() - new.keys():
            known[model].retire()
        if old and old.lookup and old.lookup is not lookup:
            asyncio.get_running_loop().call_later(_ANSWERED_S, old.lookup.close)
        return None

    async def _lookup(self, store: Mapping[str, Any] | None, variants: Sequence[routing.Variant]) -> Lookup | None:
        """Return what is known by key, the one that is open already where it stays; none where its model is not served."""
        if store is None or all(variant.model != store["model"] for variant in variants):
            return None
        now = self._app.serving.lookup if self._app.serving else None
        if now is not None and now.space == store["space"]:
            return now
        return await asyncio.to_thread(lookups.open_lookup, self._folder.path.parent.parent, store)

    def _load(self, model: str) -> Predictor:
        folder = model_folder(self._models, model)
        if folder is None:
            raise NotFoundError(f"Model {model} has no folder.", "Train it again or deploy another.")
        predictor = Predictor.load(folder)
        try:
            predictor.check()
            trials.check(predictor, self._folder.requests)
        except BaseException:
            predictor.close()
            raise
        return predictor

    def _report(self, generation: int, error: str | None) -> None:
        serving = [variant.to_dict() for variant in self._app.serving.variants] if self._app.serving else []
        self._folder.report(
            {
                "generation": generation,
                "serving": serving,
                "last_good": serving or self._folder.actual().get("last_good", []),
                "error": error,
                "pid": os.getpid(),
                "time": time.time(),
            }
        )

    def _replace_parent(self) -> bool:
        """The parent was killed: start another on the same socket; True when its child serves and this one may go."""
        if not self._replaced:
            self._replaced = True
            descriptor = self._socket.fileno()
            argv = [
                sys.executable,
                "-m",
                "jupyter_mlp.serving.host",
                str(self._folder.path),
                *map(str, self._models),
                "--socket",
                str(descriptor),
            ]
            subprocess.Popen(argv, pass_fds=[descriptor], stdin=subprocess.DEVNULL, start_new_session=True)
        return self._folder.actual().get("pid") not in (None, os.getpid())


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=OneWriteProtocol,
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


def main(arguments: list[str] | None = None) -> None:
    """Serve one endpoint on a socket that the parent owns."""
    parser = argparse.ArgumentParser(prog="jupyter_mlp.serving.child")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--last-good", action="store_true")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent does, and start no other")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until uvicorn puts its own handler in place
    listening = socket.socket(fileno=given.socket)
    os.set_inheritable(given.socket, False)  # worker processes of models must not hold the port

    async def serve() -> None:
        child = Child(EndpointFolder(given.folder), given.models, listening, given.parent, given.with_parent)
        await child.run(given.last_good)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
