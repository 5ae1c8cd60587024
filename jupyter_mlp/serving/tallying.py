"""Adds up what each model of an endpoint did since the requests are shared as they are: every line of the log once, look after look.

    requests       |---- block ----|---- block ----|---- block ----|-- now
    whole          |------------------------------------------------------|      finds what is a little too much
    lately                                         |----------------------|      finds what went bad after a long good time

It is kept in the endpoint's folder (tallies.json), because a keeper that is killed must go on from there: one that counts anew gives
chance another go. A new sharing of the requests is a new question and begins at zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_mlp.core.tallies import Tally
from jupyter_mlp.serving import requests_log, segments
from jupyter_mlp.serving.requests_log import Brief
from jupyter_mlp.store.deployments import EndpointFolder

BLOCK = 2000  # requests of the endpoint
_BACK = 4 * 2**20  # bytes of each file that are looked through for the first lines of a generation
_AT_ONCE = 4 * 2**20

Tallies = dict[str, Tally]  # by model


@dataclass
class Counted:
    """What was counted in one generation.

    Attributes:
        limits_ms: times that the answers beyond are counted of; the same ones all through a generation.
        blocks: that are complete. `rest`: requests of the one that is not.
        whole: of each model all that it did; `before`: in the newest complete block, `now`: since then.
    """

    generation: int
    cursor: segments.Cursor
    limits_ms: Sequence[float]
    blocks: int = 0
    rest: int = 0
    whole: Tallies = field(default_factory=dict)
    before: Tallies = field(default_factory=dict)
    now: Tallies = field(default_factory=dict)

    def add(self, line: Brief) -> None:
        """Count a request."""
        for tallies in (self.whole, self.now):
            if line.model not in tallies:
                tallies[line.model] = self.none()
            tallies[line.model].add(line.status == 200, line.ms)
        self.rest += 1
        if self.rest == BLOCK:
            self.before, self.now, self.rest = self.now, {}, 0
            self.blocks += 1

    def lately(self, model: str) -> Tally:
        """Return what a model did in the newest complete block and since."""
        return self.before.get(model, self.none()) + self.now.get(model, self.none())

    def none(self) -> Tally:
        """Return the tally of a model that nobody asked."""
        return Tally(slower=dict.fromkeys(self.limits_ms, 0))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        told = {name: {model: one.to_dict() for model, one in getattr(self, name).items()} for name in ("whole", "before", "now")}
        return {**vars(self), **told, "cursor": dict(self.cursor), "limits_ms": list(self.limits_ms)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Counted:
        """Read what `to_dict` wrote."""
        read = {name: {model: Tally.from_dict(one) for model, one in value[name].items()} for name in ("whole", "before", "now")}
        return cls(**{**value, **read})


def look(folder: EndpointFolder, generation: int, limits_ms: Sequence[float] = ()) -> Counted:
    """Return what each model that answers did in a generation, up to now."""
    path = folder.path / "tallies.json"
    counted = _read(path)
    if counted is None or counted.generation != generation:
        counted = Counted(generation, segments.near_end(folder.requests, _BACK), limits_ms)
    before = dict(counted.cursor)
    while True:
        piece = segments.unread(folder.requests, counted.cursor, _AT_ONCE)
        for line in requests_log.decoded(piece.data, Brief):
            if line.generation == generation and line.model and not line.shadow:
                counted.add(line)
        counted.cursor = piece.cursor
        if not piece.more:
            break
    if counted.cursor != before:
        _write(path, counted)
    return counted


def _read(path: Path) -> Counted | None:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return Counted.from_dict(json.loads(path.read_bytes()))
    return None


def _write(path: Path, counted: Counted) -> None:
    """Replace the file at once, and wait for no disk: who watches over serving has no time, and after a crash it is counted anew."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(counted.to_dict()))
    os.replace(temporary, path)
