"""Seeing what a Spark client sends: the ground of those that keep what a session holds until a request may have changed it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import grpc


class Watcher(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, ABC):
    """Sees every request of a client. `state` is another object whenever what is watched may have changed; None: never yet."""

    state: object | None = None

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """See a request that has one answer."""
        return self._seen(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """See a request that has several answers, a query for example."""
        return self._seen(continuation, client_call_details, request)

    def __deepcopy__(self, memo: object) -> Self:
        """Of `spark.newSession()`, whose client is made from a copy of this one's: it has a watcher of its own."""
        return type(self)()

    @abstractmethod
    def note(self, method: str, request: Any) -> bool:
        """Take note of a request; return whether it may change what is watched."""

    def _seen(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        if not self.note(details.method.rsplit("/", 1)[-1], request):
            return continuation(details, request)
        self._change()
        call = continuation(details, request)
        call.add_done_callback(self._change)  # it may take effect at any time until its end
        return call

    def _change(self, _: Any = None) -> None:
        self.state = object()
