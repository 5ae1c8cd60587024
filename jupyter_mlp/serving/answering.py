"""A request for predictions, once it is read: one variant answers, its shadows do for the log, and all of it is remembered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, MLPError
from jupyter_mlp.serving.arrow_stream import AskedColumns
from jupyter_mlp.serving.batching import Batcher, Overloaded
from jupyter_mlp.serving.lookups import Lookup
from jupyter_mlp.serving.metrics import Metrics
from jupyter_mlp.serving.predictor import Prediction, Predictor
from jupyter_mlp.serving.protocols import Asked, Refusal, encode, write_kept, write_v1
from jupyter_mlp.serving.requests_log import ROWS_KEPT, Entry, RequestLog
from jupyter_mlp.serving.routing import Router, Variant, champion

_log = logging.getLogger(__name__)
_FEW = 16  # rows that a quick model may answer before anything else is looked at

Write = Callable[[int, bytes], None]  # is given status and body


@dataclass(frozen=True)
class Serving:
    """One generation of variants with their models; replaced as a whole."""

    generation: int
    router: Router
    batchers: Mapping[str, Batcher]
    lookup: Lookup | None = None

    def describe(self) -> list[dict[str, Any]]:
        """Return the variants with what each expects."""
        return [{**variant.to_dict(), **_about(self.batchers[variant.model].predictor)} for variant in self.router.variants]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of this generation."""
        return self.router.variants

    @property
    def versions(self) -> list[str]:
        """The models that a caller may name; shadows answer for the log only."""
        return [variant.model for variant in self.variants if not variant.shadow]

    @property
    def best(self) -> str:
        """The model that answers most."""
        found = champion(self.variants)
        assert found is not None, "the shares make 100"
        return found.model

    def version(self, model: str) -> Predictor:
        """Return the model that a caller names.

        Raises:
            Refusal: 404, it is not served.
        """
        if model not in self.versions:
            raise Refusal(404, f"There is no version {model[:60]!r} here.", hint=f"Name one of {', '.join(self.versions)}.")
        return self.batchers[model].predictor


class Answering:
    """Answers for one endpoint with the models that it serves now.

    Args:
        name: the endpoint's.
        log: where requests are remembered. `metrics`: where they are counted.

    Attributes:
        serving: the models; None until they are loaded.
    """

    def __init__(self, name: str, log: RequestLog, metrics: Metrics) -> None:
        self.serving: Serving | None = None
        self._name = name
        self._log = log
        self._metrics = metrics
        self._in_turn = self._in_last_turn = 0  # plain requests

    async def ask(self, asked: Asked | AskedColumns, request_id: str, version: str | None = None) -> tuple[Prediction, str, str]:
        """Let one variant answer all rows of a request, and its shadows answer for the log.

        Args:
            version: the model that the caller wants; the shares decide when left out.
        """
        begun = time.perf_counter()
        serving = self.serving  # taken once: a swap in the middle does not touch this request
        request_id = asked.id[:128] if asked.id else request_id
        if serving is None:
            raise no_model()
        model = serving.router.choose(asked.key) if version is None else serving.version(version).model
        try:
            answering = serving.batchers[model].submit(asked.instances)
            for shadow in serving.router.shadows:
                self._shadow(serving.batchers[shadow], asked, request_id)
            found = _finite(await answering, model)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - each kind has its words
            raise self._refusal(error, model, request_id) from None
        self._remember(asked, request_id, found, model, begun, serving.generation)
        return found, model, request_id

    def plain(self, asked: Asked, request_id: str, write: Write) -> Callable[[], None] | None:
        """Answer a few rows by a quick model: at once where they come alone, else in this turn's call.

        Returns:
            What makes the answer come now; None where `ask` has to answer.
        """
        begun = time.perf_counter()
        serving = self.serving
        if serving is None or serving.router.shadows or asked.keys is not None or len(asked.instances) > _FEW:
            return None
        model = serving.router.choose(asked.key)
        batcher = serving.batchers[model]
        if not batcher.predictor.instant:
            return None
        request_id = asked.id[:128] if asked.id else request_id

        def done(found: Prediction | Exception) -> None:
            write(*self._told(found, asked, request_id, model, begun, serving.generation))

        try:
            batcher.add(asked.instances, done)
        except Overloaded:
            return None
        if self._is_alone():
            batcher.settle()
        return batcher.settle

    async def kept(self, asked: Asked, keys: list[str | int], request_id: str) -> bytes:
        """Answer keys from what was predicted before."""
        begun = time.perf_counter()
        serving = self.serving
        request_id = asked.id[:128] if asked.id else request_id
        if serving is None or serving.lookup is None:
            hint = f"Publish them: mlp.deploy(MODEL, to='{self._name}', serve_from='store', data=PREDICTIONS, key=COLUMN)"
            raise Refusal(422, "No predictions are published by key here.", "keys", hint)
        lookup = serving.lookup
        try:
            found = await lookup.find(keys)
        except MLPError as error:
            raise Refusal(503, error.message, hint=error.hint, model=lookup.model) from None
        entry = _entry(request_id, 200, begun, model=lookup.model)
        entry.rows = len(keys)
        entry.asked = [{lookup.key: key} for key in keys[:ROWS_KEPT]]
        entry.predictions = found.predictions[:ROWS_KEPT]
        self._log.add(entry)
        self._metrics.add(lookup.model, 200, entry.ms / 1000, len(keys))
        return write_kept(found, lookup.model, request_id)

    def refuse(self, refusal: Refusal, request_id: str, begun: float) -> tuple[int, bytes]:
        """Remember a refusal; return its status and body."""
        self._refused(request_id, refusal.status, begun, str(refusal), refusal.model)
        return refusal.status, encode({**refusal.body, "id": request_id})

    def fail(self, request_id: str, begun: float) -> tuple[int, bytes]:
        """Log the exception that is handled now, and say no more than that there was one."""
        _log.exception("request %s failed", request_id)
        self._refused(request_id, 500, begun, "internal error")
        return 500, encode({"error": "The endpoint failed on this request; its log has the details.", "id": request_id})

    def _told(
        self, found: Prediction | Exception, asked: Asked, request_id: str, model: str, begun: float, generation: int
    ) -> tuple[int, bytes]:
        try:
            if isinstance(found, Exception):
                raise self._refusal(found, model, request_id)
            body = write_v1(_finite(found, model), model, request_id)
        except Refusal as refusal:
            return self.refuse(refusal, request_id, begun)
        except Exception:  # noqa: BLE001 - the other requests of the call are to be answered, too
            return self.fail(request_id, begun)
        self._remember(asked, request_id, found, model, begun, generation)
        return 200, body

    def _is_alone(self) -> bool:
        self._in_turn += 1
        if self._in_turn == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._in_turn == 1 and self._in_last_turn <= 1

    def _end_turn(self) -> None:
        self._in_last_turn, self._in_turn = self._in_turn, 0

    def _refusal(self, error: Exception, model: str, request_id: str) -> Refusal:
        """Say why a model has no answer; what is its own fault is logged, never shown."""
        if isinstance(error, InvalidInputError):
            return Refusal(422, error.message, _field(error.message), error.hint)
        if isinstance(error, Overloaded):
            return Refusal(429, "More is waiting than this model can answer soon.", hint="Ask again in a second.")
        if isinstance(error, MLPError):
            return Refusal(503, error.message, hint=error.hint, model=model)
        _log.error("model %s failed on request %s", model, request_id, exc_info=error)
        return Refusal(500, "The model failed on this request; the endpoint's log has the details.", model=model)

    def _shadow(self, batcher: Batcher, asked: Asked | AskedColumns, request_id: str) -> None:
        begun = time.perf_counter()
        model = batcher.predictor.model
        generation = self.serving.generation if self.serving else 0
        try:
            future = batcher.submit(asked.instances)
        except Overloaded:
            return

        def note(done: Any) -> None:
            if done.exception() is None:
                self._remember(asked, request_id, done.result(), model, begun, generation, shadow=True)
            else:
                error = done.exception()
                status = 422 if isinstance(error, InvalidInputError) else 500  # a wrong request is no failure of the shadow
                entry = _entry(request_id, status, begun, model=model, shadow=True, error=str(error)[:200])
                self._log.add(entry)
                self._metrics.add(model, status, entry.ms / 1000, shadow=True)

        future.add_done_callback(note)

    def _remember(
        self,
        asked: Asked | AskedColumns,
        request_id: str,
        found: Prediction,
        model: str,
        begun: float,
        generation: int,
        shadow: bool = False,
    ) -> None:
        entry = _entry(request_id, 200, begun, model=model, shadow=shadow)
        entry.generation = generation
        entry.key = "" if asked.key is None else str(asked.key)
        entry.rows = len(asked.instances)
        entry.instances = asked.instances[:ROWS_KEPT]
        entry.predictions = found.values[:ROWS_KEPT]
        self._log.add(entry)
        self._metrics.add(model, 200, entry.ms / 1000, entry.rows, shadow)

    def _refused(self, request_id: str, status: int, begun: float, error: str, model: str = "") -> None:
        entry = _entry(request_id, status, begun, model=model, error=error[:200])
        entry.generation = self.serving.generation if self.serving else 0
        self._log.add(entry)
        self._metrics.add(model, status, entry.ms / 1000)


def no_model() -> Refusal:
    """What is said while nothing is served."""
    return Refusal(503, "No model is loaded.", hint="Ask again in a moment; GET /health says when it is ready.")


def _finite(found: Prediction, model: str) -> Prediction:
    """Refuse an answer that is no number: the model answers its own example, so it is the values that are out of its range."""
    if not found.finite:
        raise Refusal(422, f"For these values model {model} has no finite answer.", "instances", "Check the largest numbers.", model)
    return found


def _field(message: str) -> str:
    """The recipe begins what it refuses with the place: instances[0].carrier is ..."""
    first = message.split(" ", 1)[0]
    return first if first.startswith(("instances[", "instances.")) else ""


def _about(predictor: Predictor) -> dict[str, Any]:
    card = predictor.card
    return {
        "name": card.get("name"),
        "task": predictor.task,
        "inputs": card.get("signature", {}).get("inputs", []),
        "example": card.get("example"),
    }


def _entry(request_id: str, status: int, begun: float, model: str = "", shadow: bool = False, error: str = "") -> Entry:
    took = (time.perf_counter() - begun) * 1000
    return Entry(time.time(), request_id, status, round(took, 4), model, shadow, error=error)
