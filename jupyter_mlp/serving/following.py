"""Follows `wanted.json` without dropping a request: what every process that serves an endpoint has inside.

A swap loads and warms the new models beside the old ones, checks each on the example of its card and on requests that
were recorded here, and then replaces one reference. Requests under way finish on the models they began with. A model
that fails any step never gets a request.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import MLPError, NotFoundError
from jupyter_mlp.serving import lookups, routing, trials
from jupyter_mlp.serving.answering import Serving
from jupyter_mlp.serving.app import App
from jupyter_mlp.serving.batching import Batcher
from jupyter_mlp.serving.lookups import Lookup
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.store.deployments import EndpointFolder, model_folder

_ANSWERED_S = 30.0  # by then every question that a store was asked is answered


class Follower:
    """Keeps what an application serves at what its endpoint's folder wants.

    Args:
        models: folders of models, each below its UUID.
        report: takes {"generation", "serving", "last_good", "error", "pid", "time"} after each try.
    """

    def __init__(self, folder: EndpointFolder, models: list[Path], app: App, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._folder = folder
        self._models = models
        self._app = app
        self._tell = report
        self._seen: tuple[int, ...] = ()
        self._error: str | None = None  # of the newest try
        self.stopped = False

    async def begin(self, last_good: bool = False) -> None:
        """Load the wanted models, or those that were served last where the wanted ones cannot be.

        Args:
            last_good: do not try the wanted ones.
        """
        if last_good:
            await self._fall_back("The serving process died three times in a row with the wanted models.")
        else:
            await self._follow()
            if self._app.serving is None:
                await self._fall_back(None)

    async def look(self) -> None:
        """Follow, where something new is wanted."""
        if self._folder.stamp() != self._seen:
            await self._follow()

    def close(self) -> None:
        """Let the models end what they answer."""
        for batcher in (self._app.serving.batchers if self._app.serving else {}).values():
            batcher.retire()

    async def _follow(self) -> None:
        """Bring what is served to what is wanted, or say why not and go on as before."""
        self._seen = self._folder.stamp()
        wanted = self._folder.wanted()
        self.stopped = self._folder.is_over()
        generation = int(wanted.get("generation", 0))
        if self.stopped or (self._app.serving and self._app.serving.generation == generation):
            return
        self._app.access.open(wanted.get("open_pages", ()))
        error = await self._swap(generation, wanted.get("variants", []), wanted.get("store"))
        self._report(generation, error)

    async def _fall_back(self, why: str | None) -> None:
        """Serve what was served last, because what is wanted cannot be."""
        self._seen = self._folder.stamp()
        before = self._folder.actual()
        generation = int(self._folder.wanted().get("generation", 0))
        why = self._error if why is None else why
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
        self._app.serve(Serving(generation, routing.Router(variants, self._folder.name), new, lookup))
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
        self._error = error
        serving = [variant.to_dict() for variant in self._app.serving.variants] if self._app.serving else []
        self._tell(
            {
                "generation": generation,
                "serving": serving,
                "last_good": serving or self._folder.actual().get("last_good", []),
                "error": error,
                "pid": os.getpid(),
                "time": time.time(),
            }
        )
