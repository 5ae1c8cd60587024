"""The one record: an activity used some versioned things, ran, and made some versioned things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jupyter_mlp.core.references import Ref

RUNNING, FINISHED, FAILED, CANCELLED = "running", "finished", "failed", "cancelled"
FORGOTTEN = "forgotten"  # finished once; what it made was released since
QUEUED = "queued"  # how a recorded-as-running job shows that waits for processes, or for its cluster


class Activity(NamedTuple):
    """A query, training run, evaluation, deployment, prediction, snapshot or pipeline run, as recorded.

    Attributes:
        seq: position in the order of records; times of different machines are never compared.
        key: identity of what was asked on exactly which inputs; same key, same output. None: never reused.
        used, made: exact references.
        parameters: what was asked, as JSON. `facts`: what came out (rows, metrics, state), as JSON.
        started_at, ended_at: seconds since 1970, UTC.
    """

    id: str
    kind: str
    seq: int = 0
    name: str | None = None
    key: str | None = None
    state: str = RUNNING
    used: tuple[Ref, ...] = ()
    made: tuple[Ref, ...] = ()
    parameters: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    error: str | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    user: str = ""
    host: str = ""
    notebook: str | None = None
    cell: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, in seconds; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types, references as text."""
        return {
            "id": self.id,
            "seq": self.seq,
            "kind": self.kind,
            "name": self.name,
            "key": self.key,
            "state": self.state,
            "used": [str(ref) for ref in self.used],
            "made": [str(ref) for ref in self.made],
            "parameters": dict(self.parameters),
            "facts": dict(self.facts),
            "error": self.error,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "user": self.user,
            "host": self.host,
            "notebook": self.notebook,
            "cell": self.cell,
        }
