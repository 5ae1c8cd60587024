"""Asking an endpoint over HTTP, with the standard library only: what Deployment.predict and mlp.predict use."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, MLPError
from jupyter_mlp.serving.predictor import json_ready

CHUNK = 1000


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered to one request; exactly one model answered it."""

    id: str
    model: str
    predictions: list[Any]
    probabilities: list[Any] | None = None


class Client:
    """A kept-open connection to one endpoint; a lost one is opened again once.

    Example:
        >>> with Client("http://127.0.0.1:8123", "delays", token) as client:
        ...     client.ask([{"dep_delay": 4.0}]).predictions
    """

    def __init__(self, address: str, endpoint: str, token: str, timeout_s: float = 60.0) -> None:
        where = urlsplit(address)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
        self._below = where.path
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, rows: Sequence[Mapping[str, Any]], key: str | int | None = None) -> Answer:
        """Return the endpoint's answer for some rows.

        Raises:
            InvalidInputError: the endpoint refused the rows; the message names the field.
            JobError: it cannot be reached or failed.
        """
        asked: dict[str, Any] = {"instances": [{name: json_ready(value) for name, value in row.items()} for row in rows]}
        if key is not None:
            asked["key"] = key
        status, body = self._send("POST", f"/v1/models/{self._endpoint}:predict", json.dumps(asked, allow_nan=False).encode())
        if status != 200:
            raise _refused(self._endpoint, status, body)
        return Answer(body["id"], body["model"], body["predictions"], body.get("probabilities"))

    def ask_all(self, rows: Iterable[Mapping[str, Any]], chunk: int = CHUNK) -> Iterator[Answer]:
        """Yield the answers for many rows, some hundreds at a time."""
        remaining = iter(rows)
        while part := list(islice(remaining, chunk)):
            yield self.ask(part)

    def tell(self, outcomes: Sequence[Mapping[str, Any]]) -> None:
        """Send what really happened: rows of `id` and `value`.

        Raises:
            InvalidInputError: the endpoint refused one; the message names it.
        """
        status, body = self._send("POST", "/outcomes", json.dumps({"outcomes": list(outcomes)}, allow_nan=False).encode())
        if status != 200:
            raise _refused(self._endpoint, status, body)

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of a GET."""
        return self._send("GET", path, None)

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        for attempt in (1, 2):
            try:
                self._connection.request(method, f"{self._below}{path}", body, self._headers)
                response = self._connection.getresponse()
                return response.status, self._read(response.status, response.read())
            except (OSError, http.client.HTTPException) as error:
                # Predictions change nothing, so asking again after a lost connection is safe.
                self._connection.close()
                if attempt == 2:
                    raise JobError(
                        f"The endpoint {self._endpoint} cannot be reached: {error or type(error).__name__}.",
                        f"mlp.endpoint('{self._endpoint}') shows its state; deploying to it again restarts it.",
                    ) from error
        raise AssertionError("unreachable")

    def _read(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError:
            raise JobError(
                f"The endpoint {self._endpoint} cannot be reached: {status} came from something else at its address.",
                f"mlp.endpoint('{self._endpoint}') shows its state; deploying to it again restarts it.",
            ) from None
        return found


def _refused(endpoint: str, status: int, body: Mapping[str, Any]) -> MLPError:
    message, hint = str(body.get("error", f"status {status}")), str(body.get("hint", ""))
    if status in (413, 422):
        return InvalidInputError(message, hint)
    if status == 401:
        return ConflictError(message, hint)
    return JobError(f"The endpoint {endpoint} answered {status}: {message}", hint)
