"""The HTTP side of an endpoint, as a bare ASGI application: frameworks cost more than small models do.

POST /v1/models/<endpoint>:predict, /predict   KServe v1: rows in, predictions out; or both as Arrow streams
POST /v2/models/<endpoint>/infer               Open Inference Protocol v2: columns in, tensors out
GET  /v2, /v2/models/<endpoint>[/ready]        what the protocol asks of servers and models
     /v2/models/<endpoint>/versions/<UUID>...  the same of one of the models
POST /outcomes                                 what really happened, by the id of the answer
GET  /health, /v2/health/live, .../ready       the truth about live and ready; the routes without token
GET  /metadata                                 what is served
GET  /metrics                                  numbers for Prometheus
GET  /openapi.json, /docs                      what is taken and given, for programs and for people

The setting `open_pages` opens metrics, and openapi with docs, to those without a token. Pages also take the token as the
password of HTTP's Basic scheme, because a browser asks for that and for nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from importlib import metadata
from itertools import count
from typing import Any, NamedTuple

from jupyter_mlp.serving import arrow_stream, open_inference, openapi
from jupyter_mlp.serving.access import Access
from jupyter_mlp.serving.answering import Answering, Serving, Write, no_model
from jupyter_mlp.serving.metrics import CONTENT_TYPE, Metrics
from jupyter_mlp.serving.protocols import Refusal, encode, read_outcomes, read_v1, write_v1
from jupyter_mlp.serving.requests_log import Outcome, RequestLog
from jupyter_mlp.serving.sums import Sums

BODY_BYTES = 16 * 2**20

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"
_HEALTH = frozenset(("/health", "/v2/health/live", "/v2/health/ready"))


class Route(NamedTuple):
    """What one path takes, who answers, and as what."""

    method: str
    handler: Callable[[bytes, str], Awaitable[bytes]]
    content_type: bytes = _JSON


class App:
    """The ASGI application of one endpoint.

    Args:
        name: the endpoint's name, part of its URLs.
        token: what callers must send as `Authorization: Bearer ...`.
        log: where requests are remembered. `outcomes`: where what happened is.
        mounted: what its paths begin with for callers, where it is not alone at its address.
        sums: where several processes of this machine serve the endpoint.
    """

    def __init__(
        self,
        name: str,
        token: str,
        log: RequestLog,
        outcomes: RequestLog | None = None,
        mounted: str = "",
        sums: Sums | None = None,
    ) -> None:
        self.name = name
        self._mounted = mounted
        self.access = Access(token)
        self._outcomes = outcomes or log
        self._metrics = Metrics(name, sums)
        self._answering = Answering(name, log, self._metrics)
        self._ids = count(random.getrandbits(16))
        self._start = os.urandom(6).hex()
        self._leaves = False
        self.probes = 0  # requests for health, which are no use of the models
        predict, infer, model = self._predict, self._infer, f"/v2/models/{name}"
        self.direct_urls = frozenset({b"/predict", f"/v1/models/{name}:predict".encode()})
        self._routes = {
            "/predict": Route("POST", predict),
            f"/v1/models/{name}:predict": Route("POST", predict),
            f"{model}/infer": Route("POST", infer),
            "/outcomes": Route("POST", self._happened),
            "/metadata": Route("GET", self._metadata),
            f"/v1/models/{name}": Route("GET", self._metadata),
            "/v2": Route("GET", self._server_v2),
            model: Route("GET", self._metadata_v2),
            f"{model}/ready": Route("GET", self._ready_v2),
            "/metrics": Route("GET", self._numbers, CONTENT_TYPE),
            "/openapi.json": Route("GET", self._openapi),
            "/docs": Route("GET", self._docs, _HTML),
        }
        self._below = f"{model}/versions/"
        self._of_version = {"": self._metadata_v2, "ready": self._ready_v2, "infer": infer}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong, the client gets JSON and never a stack."""
        if scope["type"] != "http":
            return
        if scope["path"] in _HEALTH:
            status, body = self._health(scope["path"], scope["method"])
            self.probes += 1
            # A prober that stayed connected would keep the models in memory (warmth.py).
            await _answer(send, status, body, allow=b"GET, HEAD" if status == 405 else b"", close=True)
            return
        begun = time.perf_counter()
        request_id = self._new_id()
        content_type, allow = _JSON, b""
        try:
            status, (content_type, body) = 200, await self._handle(scope, receive, request_id)
        except Refusal as refusal:
            status, body = self._answering.refuse(refusal, request_id, begun)
            route = self._route(scope["path"]) if status == 405 else None
            allow = route.method.encode() if route else b""
        except Exception:  # noqa: BLE001 - a defect of ours or of a model is logged, never shown
            status, body = self._answering.fail(request_id, begun)
        await _answer(send, status, body, content_type, allow, self._leaves)

    def plain(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, write: Write) -> Callable[[], None] | None:
        """Answer a plain v1 request of a few rows to a quick model without a task of its own.

        Args:
            write: is given the status and the body of the answer, before or soon after this returns.

        Returns:
            What makes the answer come now; None for every other request, which has to come in by `__call__`.
        """
        if not self.access.bears(headers) or _is_special(headers):
            return None
        try:
            asked = read_v1(body)
        except Refusal:
            return None
        return self._answering.plain(asked, self._new_id(), write)

    def serve(self, serving: Serving) -> None:
        """Answer with other models, from the next request on."""
        self._answering.serving = serving

    @property
    def serving(self) -> Serving | None:
        """The models that answer now."""
        return self._answering.serving

    def leave(self) -> None:
        """Tell callers with each answer to ask on another connection: this process ends."""
        self._leaves = True
        self.direct_urls = frozenset()  # their way says nothing of connections

    def share(self) -> None:
        """Let the other processes of the endpoint see what was counted here."""
        self._metrics.share()

    def _new_id(self) -> str:
        return f"{self._start}{next(self._ids):x}"

    async def _handle(self, scope: Scope, receive: Receive, request_id: str) -> tuple[bytes, bytes]:
        self._authorize(scope)
        route = self._route(scope["path"])
        if route is None:
            raise Refusal(404, f"There is nothing at {scope['path'][:200]}.", hint=f"POST /v1/models/{self.name}:predict")
        if scope["method"] != route.method:
            raise Refusal(405, f"{scope['path']} takes {route.method}, not {scope['method']}.", hint=f"Send it with {route.method}.")
        body = await _body(scope, receive) if route.method == "POST" else b""
        in_arrow = arrow_stream.forms(scope["headers"])
        if any(in_arrow) and route.handler == self._predict:
            return await self._predict_arrow(body, request_id, *in_arrow)
        return route.content_type, await route.handler(body, request_id)

    def _route(self, path: str) -> Route | None:
        found = self._routes.get(path)
        if found is not None or not path.startswith(self._below):
            return found
        version, _, verb = path.removeprefix(self._below).partition("/")
        handler = self._of_version.get(verb)
        return Route("POST" if verb == "infer" else "GET", partial(handler, version=version)) if handler else None

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
            return await self._answering.kept(asked, asked.keys, request_id)
        found, model, request_id = await self._answering.ask(asked, request_id)
        return write_v1(found, model, request_id)

    async def _predict_arrow(self, body: bytes, request_id: str, given: bool, wanted: bool) -> tuple[bytes, bytes]:
        asked = await asyncio.to_thread(arrow_stream.read, body) if given else read_v1(body)
        if asked.keys is not None:
            return _JSON, await self._predict(body, request_id)
        found, model, request_id = await self._answering.ask(asked, request_id)
        if wanted:
            return arrow_stream.CONTENT_TYPE, await asyncio.to_thread(arrow_stream.write, found, model, request_id)
        return _JSON, write_v1(found, model, request_id)

    async def _infer(self, body: bytes, request_id: str, version: str | None = None) -> bytes:
        asked, wanted = open_inference.read(body)
        found, model, request_id = await self._answering.ask(asked, request_id, version)
        return open_inference.write(found, model, request_id, self.name, wanted)

    async def _happened(self, body: bytes, request_id: str) -> bytes:
        found = read_outcomes(body)
        now = time.time()
        for one in found:
            said = one.value
            value = str(said).lower() if isinstance(said, bool) else float(said) if isinstance(said, int) else said
            self._outcomes.add(Outcome(now, one.id, value))
        if not self._outcomes.flush():  # whoever reads 200 may forget it
            raise Refusal(503, "The outcomes could not be written down.", hint="Send them again when the endpoint's disk has space.")
        return encode({"received": len(found), "id": request_id})

    def _health(self, path: str, method: str) -> tuple[int, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, encode({"error": f"{path} takes GET.", "hint": "Send it with GET."})
        ready = self.serving is not None
        return (200 if ready or path.endswith("/live") else 503), encode({"live": True, "ready": ready})

    async def _metadata(self, body: bytes, request_id: str) -> bytes:
        serving = self.serving
        variants = serving.describe() if serving else []
        return encode(
            {"name": self.name, "ready": serving is not None, "generation": serving.generation if serving else 0, "variants": variants}
        )

    async def _server_v2(self, body: bytes, request_id: str) -> bytes:
        return encode({"name": "jupyter_mlp", "version": metadata.version("jupyter_mlp"), "extensions": []})

    async def _metadata_v2(self, body: bytes, request_id: str, version: str | None = None) -> bytes:
        serving = self._loaded()
        predictor = serving.version(version or serving.best)
        told = {"name": self.name, "versions": serving.versions, "platform": "jupyter_mlp"}
        return encode({**told, **open_inference.metadata(predictor)})

    async def _ready_v2(self, body: bytes, request_id: str, version: str | None = None) -> bytes:
        serving = self._loaded()
        serving.version(version or serving.best)
        return encode({"name": self.name, "ready": True})

    def _loaded(self) -> Serving:
        if self.serving is None:
            raise no_model()
        return self.serving

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
        recipe = serving.version(serving.best).recipe
        return openapi.document(self.name, recipe, serving.describe(), serving.lookup is not None, self._mounted)


def _is_special(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a body is compressed, or Arrow is spoken."""
    for name, value in headers:
        if name == b"content-encoding" and value != b"identity":
            return True
        if (name == b"accept" or name == b"content-type") and b"arrow" in value.lower():
            return True
    return False


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


async def _answer(send: Send, status: int, body: bytes, content_type: bytes = _JSON, allow: bytes = b"", close: bool = False) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if close or status in (401, 413):  # where we refuse, what is left of the request is not worth reading
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer, Basic realm="any user, the token as password"'))
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
