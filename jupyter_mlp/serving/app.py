"""The HTTP side of an endpoint, as a bare ASGI application: frameworks cost more than small models do.

POST /v1/models/<endpoint>:predict, /predict   KServe v1: rows in, predictions out
POST /v2/models/<endpoint>/infer               Open Inference Protocol v2: columns in, tensors out
POST /outcomes                                 what really happened, by the id of the answer
GET  /health                                   the truth about live and ready; the one route without token
GET  /metadata, /v2/models/<endpoint>          what is served
GET  /metrics                                  numbers for Prometheus
GET  /openapi.json, /docs                      what is taken and given, for programs and for people

The setting `open_pages` opens metrics, and openapi with docs, to those without a token. Pages also take the token as the
password of HTTP's Basic scheme, because a browser asks for that and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from jupyter_mlp.core.errors import InvalidInputError, MLPError
from jupyter_mlp.serving import openapi
from jupyter_mlp.serving.access import Access
from jupyter_mlp.serving.batching import Batcher, Overloaded
from jupyter_mlp.serving.lookups import Lookup
from jupyter_mlp.serving.metrics import CONTENT_TYPE, Metrics
from jupyter_mlp.serving.predictor import Prediction, Predictor
from jupyter_mlp.serving.protocols import Asked, Refusal, encode, read_outcomes, read_v1, read_v2, write_kept, write_v1, write_v2
from jupyter_mlp.serving.requests_log import ROWS_KEPT, Entry, Outcome, RequestLog
from jupyter_mlp.serving.routing import Router, Variant, champion

_log = logging.getLogger(__name__)
BODY_BYTES = 16 * 2**20
_FEW = 16  # rows that a quick model may answer before anything else is looked at

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"


class Route(NamedTuple):
    """What one path takes, who answers, and as what."""

    method: str
    handler: Callable[[bytes, str], Awaitable[bytes]]
    content_type: bytes = _JSON


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


class App:
    """The ASGI application of one endpoint.

    Args:
        name: the endpoint's name, part of its URLs.
        token: what callers must send as `Authorization: Bearer ...`.
        log: where requests are remembered. `outcomes`: where what happened is.
        mounted: what its paths begin with for callers, where it is not alone at its address.
    """

    def __init__(self, name: str, token: str, log: RequestLog, outcomes: RequestLog | None = None, mounted: str = "") -> None:
        self.name = name
        self._mounted = mounted
        self.serving: Serving | None = None
        self.access = Access(token)
        self._log = log
        self._outcomes = outcomes or log
        self._metrics = Metrics(name)
        self._ids = count(random.getrandbits(16))
        self._start = os.urandom(6).hex()
        self._in_turn = self._in_last_turn = 0  # plain requests
        predict, infer = self._predict, self._infer
        self.direct_urls = frozenset({b"/predict", f"/v1/models/{name}:predict".encode()})
        self._routes = {
            "/predict": Route("POST", predict),
            f"/v1/models/{name}:predict": Route("POST", predict),
            f"/v2/models/{name}/infer": Route("POST", infer),
            "/outcomes": Route("POST", self._happened),
            "/metadata": Route("GET", self._metadata),
            f"/v1/models/{name}": Route("GET", self._metadata),
            f"/v2/models/{name}": Route("GET", self._metadata_v2),
            "/metrics": Route("GET", self._numbers, CONTENT_TYPE),
            "/openapi.json": Route("GET", self._openapi),
            "/docs": Route("GET", self._docs, _HTML),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong, the client gets JSON and never a stack."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            status, body = self._health(scope["method"])
            await _answer(send, status, body, allow=b"GET, HEAD" if status == 405 else b"")
            return
        begun = time.perf_counter()
        request_id = f"{self._start}{next(self._ids):x}"
        content_type, allow = _JSON, b""
        try:
            status, (content_type, body) = 200, await self._handle(scope, receive, request_id)
        except Refusal as refusal:
            status, body = refusal.status, encode({**refusal.body, "id": request_id})
            allow = self._routes[scope["path"]].method.encode() if status == 405 else b""
            self._refused(request_id, status, begun, str(refusal), refusal.model)
        except Exception:  # noqa: BLE001 - a defect of ours or of a model is logged, never shown
            status, body = self._failed(request_id, begun)
        await _answer(send, status, body, content_type, allow)

    def plain(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, write: Callable[[int, bytes], None]) -> bool:
        """Answer a plain v1 request of a few rows to a quick model: at once where it comes alone, else in this turn's call.

        Args:
            write: is given the status and the body of the answer, before or soon after this returns.

        Returns:
            False for everything else and whatever is wrong with the request: it has to come in by `__call__`.
        """
        begun = time.perf_counter()
        alone = self._is_alone()
        serving = self.serving
        if serving is None or serving.router.shadows or not self.access.bears(headers) or _is_compressed(headers):
            return False
        try:
            asked = read_v1(body)
        except Refusal:
            return False
        rows = asked.instances
        model = serving.router.choose(asked.key)
        batcher = serving.batchers[model]
        if asked.keys is not None or len(rows) > _FEW or not batcher.predictor.instant:
            return False
        request_id = asked.id[:128] if asked.id else f"{self._start}{next(self._ids):x}"

        def done(found: Prediction | Exception) -> None:
            write(*self._told(found, asked, request_id, model, begun, serving.generation))

        try:
            batcher.add(rows, done)
        except Overloaded:
            return False
        if alone:
            batcher.settle()
        return True

    def settle(self) -> None:
        """Answer the plain requests that wait for the end of the turn."""
        for batcher in self.serving.batchers.values() if self.serving else ():
            batcher.settle()

    def _told(
        self, found: Prediction | Exception, asked: Asked, request_id: str, model: str, begun: float, generation: int
    ) -> tuple[int, bytes]:
        try:
            if isinstance(found, Exception):
                raise self._refusal(found, model, request_id)
            body = write_v1(_finite(found, model), model, request_id)
        except Refusal as refusal:
            self._refused(request_id, refusal.status, begun, str(refusal), refusal.model)
            return refusal.status, encode({**refusal.body, "id": request_id})
        except Exception:  # noqa: BLE001 - the other requests of the call are to be answered, too
            return self._failed(request_id, begun)
        self._remember(asked, request_id, found, model, begun, generation)
        return 200, body

    def _failed(self, request_id: str, begun: float) -> tuple[int, bytes]:
        """Log the exception that is handled now, and say no more than that there was one."""
        _log.exception("request %s failed", request_id)
        self._refused(request_id, 500, begun, "internal error")
        return 500, encode({"error": "The endpoint failed on this request; its log has the details.", "id": request_id})

    def _is_alone(self) -> bool:
        self._in_turn += 1
        if self._in_turn == 1:
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._in_turn == 1 and self._in_last_turn <= 1

    def _end_turn(self) -> None:
        self._in_last_turn, self._in_turn = self._in_turn, 0

    async def _handle(self, scope: Scope, receive: Receive, request_id: str) -> tuple[bytes, bytes]:
        self._authorize(scope)
        route = self._routes.get(scope["path"])
        if route is None:
            raise Refusal(404, f"There is nothing at {scope['path'][:200]}.", hint=f"POST /v1/models/{self.name}:predict")
        if scope["method"] != route.method:
            raise Refusal(405, f"{scope['path']} takes {route.method}, not {scope['method']}.", hint=f"Send it with {route.method}.")
        body = await _body(scope, receive) if route.method == "POST" else b""
        return route.content_type, await route.handler(body, request_id)

    def _authorize(self, scope: Scope) -> None:
        if self.access.allows(scope):
            return
        raise Refusal(
            401,
            "The endpoint's token is missing or wrong.",
            hint=f"Send the header Authorization: Bearer TOKEN; mlp.endpoint('{self.name}').headers has it.",
        )

    async def _predict(self, body: bytes, request_id: str) -> bytes:
        asked = read_v1(body)
        if asked.keys is not None:
            return await self._kept(asked, asked.keys, request_id)
        found, model, request_id = await self._ask(asked, request_id)
        return write_v1(found, model, request_id)

    async def _kept(self, asked: Asked, keys: list[str | int], request_id: str) -> bytes:
        """Answer keys from what was predicted before."""
        begun = time.perf_counter()
        serving = self.serving
        request_id = asked.id[:128] if asked.id else request_id
        if serving is None or serving.lookup is None:
            hint = f"Publish them: mlp.deploy(MODEL, to='{self.name}', serve_from='store', data=PREDICTIONS, key=COLUMN)"
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

    async def _infer(self, body: bytes, request_id: str) -> bytes:
        asked = read_v2(body)
        found, model, request_id = await self._ask(asked, request_id)
        return write_v2(found, model, request_id, self.name)

    async def _ask(self, asked: Asked, request_id: str) -> tuple[Prediction, str, str]:
        """Let one variant answer all rows of a request, and its shadows answer for the log."""
        begun = time.perf_counter()
        serving = self.serving  # taken once: a swap in the middle does not touch this request
        request_id = asked.id[:128] if asked.id else request_id
        if serving is None:
            raise Refusal(503, "No model is loaded.", hint="Ask again in a moment; GET /health says when it is ready.")
        model = serving.router.choose(asked.key)
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

    def _shadow(self, batcher: Batcher, asked: Asked, request_id: str) -> None:
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
        self, asked: Asked, request_id: str, found: Prediction, model: str, begun: float, generation: int, shadow: bool = False
    ) -> None:
        entry = _entry(request_id, 200, begun, model=model, shadow=shadow)
        entry.generation = generation
        entry.key = "" if asked.key is None else str(asked.key)
        entry.rows = len(asked.instances)
        entry.instances = asked.instances[:ROWS_KEPT]
        entry.predictions = found.values[:ROWS_KEPT]
        self._log.add(entry)
        self._metrics.add(model, 200, entry.ms / 1000, entry.rows, shadow)

    async def _happened(self, body: bytes, request_id: str) -> bytes:
        found = read_outcomes(body)
        now = time.time()
        for one in found:
            said = one.value
            value = str(said).lower() if isinstance(said, bool) else float(said) if isinstance(said, int) else said
            self._outcomes.add(Outcome(now, one.id, value))
        self._outcomes.flush()  # whoever reads 200 may forget it
        return encode({"received": len(found), "id": request_id})

    def _refused(self, request_id: str, status: int, begun: float, error: str, model: str = "") -> None:
        entry = _entry(request_id, status, begun, model=model, error=error[:200])
        entry.generation = self.serving.generation if self.serving else 0
        self._log.add(entry)
        self._metrics.add(model, status, entry.ms / 1000)

    def _health(self, method: str) -> tuple[int, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, encode({"error": "/health takes GET.", "hint": "Send it with GET."})
        ready = self.serving is not None
        return (200 if ready else 503), encode({"live": True, "ready": ready})

    async def _metadata(self, body: bytes, request_id: str) -> bytes:
        serving = self.serving
        variants = serving.describe() if serving else []
        return encode(
            {"name": self.name, "ready": serving is not None, "generation": serving.generation if serving else 0, "variants": variants}
        )

    async def _metadata_v2(self, body: bytes, request_id: str) -> bytes:
        variants = self.serving.describe() if self.serving else []
        inputs = [{"name": i["name"], "datatype": i.get("type"), "shape": [-1]} for i in (variants[0]["inputs"] if variants else [])]
        return encode(
            {"name": self.name, "versions": [v["model"] for v in variants], "platform": "jupyter_mlp", "inputs": inputs, "outputs": []}
        )

    async def _numbers(self, body: bytes, request_id: str) -> bytes:
        serving = self.serving
        return self._metrics.text(serving.generation if serving else 0, serving.describe() if serving else [])

    async def _openapi(self, body: bytes, request_id: str) -> bytes:
        return encode(self._document())

    async def _docs(self, body: bytes, request_id: str) -> bytes:
        return openapi.page(self._document()).encode()

    def _document(self) -> dict[str, Any]:
        serving = self.serving
        if serving is None:
            return openapi.document(self.name, None, [], at=self._mounted)
        best = champion(serving.variants)
        recipe = serving.batchers[best.model].predictor.recipe if best else None
        return openapi.document(self.name, recipe, serving.describe(), serving.lookup is not None, self._mounted)


def _finite(found: Prediction, model: str) -> Prediction:
    """Refuse an answer that is no number: the model answers its own example, so it is the values that are out of its range."""
    if not found.finite:
        raise Refusal(422, f"For these values model {model} has no finite answer.", "instances", "Check the largest numbers.", model)
    return found


def _field(message: str) -> str:
    """The recipe begins what it refuses with the place: instances[0].carrier is ..."""
    first = message.split(" ", 1)[0]
    return first if first.startswith("instances[") else ""


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


def _is_compressed(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-encoding" and value != b"identity" for name, value in headers)


async def _body(scope: Scope, receive: Receive) -> bytes:
    if _is_compressed(scope["headers"]):
        raise Refusal(422, "Compressed bodies are not read.", "content-encoding", "Send plain JSON.")
    message = await receive()
    if not message.get("more_body"):
        return _capped(message.get("body", b""))
    parts: list[bytes] = [message.get("body", b"")]
    size = len(parts[0])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "The client went away.")
        size += len(message.get("body", b""))
        if size <= BODY_BYTES:
            parts.append(message["body"])
        elif size > 4 * BODY_BYTES:
            raise _too_large()  # a little too much is read and dropped, because a client that still sends does not listen
    if size > BODY_BYTES:
        raise _too_large()
    return b"".join(parts)


def _capped(body: bytes) -> bytes:
    if len(body) > BODY_BYTES:
        raise _too_large()
    return body


def _too_large() -> Refusal:
    return Refusal(413, f"The body is larger than {BODY_BYTES // 2**20} MiB.", "body", "Send fewer rows per request.")


async def _answer(send: Send, status: int, body: bytes, content_type: bytes = _JSON, allow: bytes = b"") -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if status in (401, 413):
        headers.append((b"connection", b"close"))  # what is left of the request is not worth reading
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer, Basic realm="any user, the token as password"'))
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
