"""Predictions by key in Redis: one hash a space, made beside and renamed into place."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import redis

from jupyter_mlp.core.errors import StorageError

_CHUNK = 10_000
_WAIT_S = 5.0


class RedisStore:
    """The online store of a Redis server.

    Args:
        address: redis://[user:password@]host:port/number, rediss:// or unix://; it is never shown: it may hold a password.
    """

    quick = False  # a network lies between

    def __init__(self, address: str) -> None:
        try:
            self._redis = redis.Redis.from_url(address, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S)
            self._redis.ping()
        except (redis.RedisError, ValueError) as error:
            raise StorageError(
                f"The online store does not answer: {_said(error)}.", "Check the setting `store` and that Redis runs."
            ) from error

    def publish(self, space: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace a space by these rows, all at once."""
        beside, waiting = f"{_name(space)}:{uuid.uuid4().hex}", iter(rows)
        try:
            self._redis.hset(beside, mapping={"": b""})  # a hash without a field is none; no value of ours is empty
            self._redis.expire(beside, 3600)  # what a killed publisher leaves goes by itself
            while chunk := list(islice(waiting, _CHUNK)):
                self._redis.hset(beside, items=[part for row in chunk for part in row])
            whole = self._redis.pipeline(transaction=True)
            whole.persist(beside)
            whole.rename(beside, _name(space))
            whole.execute()
        except redis.RedisError as error:
            raise StorageError(f"The online store did not take the predictions: {_said(error)}.", "Run it again.") from error

    def get(self, space: str, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of some keys, None where there is none."""
        try:
            found: Any = self._redis.hmget(_name(space), list(keys))
        except redis.RedisError as error:
            raise StorageError(f"The online store does not answer: {_said(error)}.", "Ask again in a moment.") from error
        return [value or None for value in found]

    def drop(self, space: str) -> None:
        """Remove a space; one that is not there is removed already."""
        try:
            self._redis.unlink(_name(space))
        except redis.RedisError as error:
            raise StorageError(f"The online store does not answer: {_said(error)}.", "Check that Redis runs.") from error

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _name(space: str) -> str:
    return f"mlp:{space}"


def _said(error: Exception) -> str:
    """The kind of trouble, without the address."""
    return type(error).__name__
