"""Predictions by key in Cassandra: the rows of a version are written beside, then one row says which version holds.

    spaces        space -> version
    versions      space -> the versions whose rows are there, whole or not: what a killed publisher left goes with the next one
    predictions   (space, version, part) -> key -> value      in parts, so that the nodes share them and each can be dropped at once

Asked and written at LOCAL_QUORUM: who was told that a version holds finds it. Tables are made in a keyspace that must be there,
because how often it is kept is for whoever runs the cluster to say.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit

from cassandra import ConsistencyLevel, DriverException, InvalidRequest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.concurrent import execute_concurrent_with_args

from jupyter_mlp.core.errors import StorageError

_PORT, _KEYSPACE = 9042, "mlp"
_PARTS = 64  # of a version; no partition grows too large with a million rows
_CHUNK = 10_000
_TOGETHER = 100  # requests under way
_WAIT_S = 5.0
_ABANDONED = 3600 * 10**7  # of 100 ns, as a version counts them: who began so long ago and has not ended was killed
_AGAIN = "Try again in a moment, or check that Cassandra runs."
_TABLES = (
    "CREATE TABLE IF NOT EXISTS spaces (space text PRIMARY KEY, version timeuuid)",
    "CREATE TABLE IF NOT EXISTS versions (space text, version timeuuid, PRIMARY KEY (space, version))",
    "CREATE TABLE IF NOT EXISTS predictions"
    " (space text, version timeuuid, part int, key text, value blob, PRIMARY KEY ((space, version, part), key))",
)
_STATEMENTS = {
    "version": "SELECT version FROM spaces WHERE space = ?",
    "hold": "INSERT INTO spaces (space, version) VALUES (?, ?)",
    "versions": "SELECT version FROM versions WHERE space = ?",
    "begin": "INSERT INTO versions (space, version) VALUES (?, ?)",
    "end": "DELETE FROM versions WHERE space = ? AND version = ?",
    "forget": "DELETE FROM spaces WHERE space = ?",
    "put": "INSERT INTO predictions (space, version, part, key, value) VALUES (?, ?, ?, ?, ?)",
    "get": "SELECT value FROM predictions WHERE space = ? AND version = ? AND part = ? AND key = ?",
    "drop": "DELETE FROM predictions WHERE space = ? AND version = ? AND part = ?",
}


class CassandraStore:
    """The online store of a Cassandra cluster.

    Args:
        address: cassandra://[user:password@]host[,host][:port][/keyspace]; it is never shown: it may hold a password.
    """

    quick = False  # a network lies between

    def __init__(self, address: str) -> None:
        told = urlsplit(address)
        hosts = (told.hostname or "127.0.0.1").split(",")
        keyspace = told.path.strip("/") or _KEYSPACE
        login = PlainTextAuthProvider(unquote(told.username), unquote(told.password or "")) if told.username else None
        profile = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM, request_timeout=_WAIT_S)
        with _asked("Check the setting `store` and that Cassandra runs."):
            self._cluster = Cluster(
                hosts,
                port=told.port or _PORT,
                auth_provider=login,
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                connect_timeout=_WAIT_S,
                control_connection_timeout=_WAIT_S,
            )
        try:
            with _asked("Check the setting `store` and that Cassandra runs."):
                self._session = self._cluster.connect()
            self._enter(keyspace)
            with _asked("Check that this user may make tables there."):
                for table in _TABLES:
                    self._session.execute(table)
                self._ask = {name: self._session.prepare(text) for name, text in _STATEMENTS.items()}
        except BaseException:
            self._cluster.shutdown()
            raise

    def _enter(self, keyspace: str) -> None:
        try:
            with _asked("Check the setting `store` and that Cassandra runs."):
                self._session.set_keyspace(keyspace)
        except StorageError as error:
            if isinstance(error.__cause__, InvalidRequest):
                replicas = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
                raise StorageError(
                    f"The online store has no keyspace {keyspace}.", f"In cqlsh: CREATE KEYSPACE {keyspace} WITH replication = {replicas}"
                ) from error
            raise

    def publish(self, space: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace a space by these rows, all at once."""
        new, waiting, before = uuid.uuid1(), iter(rows), self._version(space)
        self._one("begin", space, new)
        try:
            while chunk := list(islice(waiting, _CHUNK)):
                self._all("put", [(space, new, _part(key), key, value) for key, value in chunk])
            self._one("hold", space, new)
        except BaseException:
            self._remove(space, new)
            raise
        for version in self._versions(space):
            if version == before or version.time < new.time - _ABANDONED:
                self._remove(space, version)

    def get(self, space: str, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of some keys, None where there is none."""
        version = self._version(space)
        while version is not None:
            answers = self._all("get", [(space, version, _part(key), key) for key in keys])
            found = [row.value if (row := answer.one()) else None for answer in answers]
            if None not in found:
                return found
            # Not there, or of a version that has just been replaced and removed.
            version, before = self._version(space), version
            if version == before:
                return found
        return [None] * len(keys)

    def drop(self, space: str) -> None:
        """Remove a space; one that is not there is removed already."""
        self._one("forget", space)
        for version in self._versions(space):
            self._remove(space, version)

    def close(self) -> None:
        """Close the connections."""
        self._cluster.shutdown()

    def _version(self, space: str) -> uuid.UUID | None:
        row = self._one("version", space).one()
        return row.version if row else None

    def _versions(self, space: str) -> list[uuid.UUID]:
        return [row.version for row in self._one("versions", space)]

    def _remove(self, space: str, version: uuid.UUID) -> None:
        self._all("drop", [(space, version, part) for part in range(_PARTS)])
        self._one("end", space, version)

    def _one(self, name: str, *told: Any) -> Any:
        with _asked(_AGAIN):
            return self._session.execute(self._ask[name], told)

    def _all(self, name: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Ask the same for each of these, many at a time; return the answers in their order."""
        with _asked(_AGAIN):
            return [answer for _, answer in execute_concurrent_with_args(self._session, self._ask[name], rows, concurrency=_TOGETHER)]


@contextmanager
def _asked(hint: str) -> Iterator[None]:
    """Say what the cluster did not do by its kind only, without the address."""
    try:
        yield
    except (DriverException, NoHostAvailable) as error:
        raise StorageError(f"The online store does not answer: {type(error).__name__}.", hint) from error


def _part(key: str) -> int:
    return zlib.crc32(key.encode()) % _PARTS
