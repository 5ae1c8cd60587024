"""A training that stands still: each rank says how far it is, and where it stands once none gets any further.

    pulse.<rank>.json    the place of a rank, and how often it moved: written every few seconds while it moves
    still.json           the supervisor's: none has moved for as long as the run allows
    stall.<rank>.json    where the rank stands then; stall.<rank>.txt has the stacks of all its threads

Only marks of training itself count (a batch, a step, a validation batch, a checkpoint being written): a thread lives on
when all it serves has stopped. A rank that waits for others does not stand still while they get on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from jupyter_mlp.store.jobs import RunFolder

STILL = "still.json"
_OFTEN = 20  # looks in the time that is allowed
_BETWEEN_S = (0.2, 10.0)  # and never more, or less often
_GAP_S = 3.0  # beyond that between two looks, it was the supervisor that stood still (a suspended job)
_SPEAK_S = 10.0  # for the ranks to say where they stand, beside the time between two looks


def between(limit_s: float) -> float:
    """Return the seconds between two looks."""
    return min(max(limit_s / _OFTEN, _BETWEEN_S[0]), _BETWEEN_S[1])


def say(run: RunFolder, name: str, value: Mapping[str, Any]) -> None:
    """Write a small file that is read while the run runs: whole, and not kept for a power cut."""
    path = run.path / name
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value), encoding="utf-8")
    os.replace(fresh, path)


class Stalls:
    """The supervisor's look at whether any rank of an attempt gets on.

    Args:
        limit_s: how long none may; 0 for ever.
    """

    def __init__(self, run: RunFolder, world: int, limit_s: float) -> None:
        self._run, self._world, self._limit_s = run, world, limit_s
        self._attempt = 0
        self._seen: list[Any] = []
        self._still_s, self._looked_at = 0.0, 0.0

    def begin(self, attempt: int) -> None:
        """Look at another attempt."""
        self._attempt, self._seen, self._still_s, self._looked_at = attempt, [], 0.0, time.monotonic()

    def come(self) -> bool:
        """Whether none has got any further for as long as is allowed. Asked often, it looks now and then."""
        now = time.monotonic()
        if not self._limit_s or now - self._looked_at < between(self._limit_s):
            return False
        self._still_s += min(now - self._looked_at, between(self._limit_s) + _GAP_S)
        self._looked_at = now
        seen = [self._word("pulse", rank) for rank in range(self._world)]
        if seen != self._seen or not any(word.get("place") for word in seen):  # it starts, or has ended and is being published
            self._seen, self._still_s = seen, 0.0
        return self._still_s >= self._limit_s

    def told(self) -> tuple[str, str]:
        """Ask the ranks where they stand; return a sentence that names who is the farthest behind, and what to do."""
        say(self._run, STILL, {"attempt": self._attempt})
        deadline = time.monotonic() + _SPEAK_S + 2 * between(self._limit_s)
        words: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            words = [self._word("stall", rank) for rank in range(self._world)]
            if all(words):
                break
            time.sleep(0.1)
        places = [word.get("place") or seen.get("place") or [0, 0, 0] for word, seen in zip(words, self._seen, strict=True)]
        last = [rank for rank, place in enumerate(places) if place == min(places)]
        return _sentence(last, self._world, words, self._seen, self._limit_s), _hint(self._limit_s)

    def _word(self, kind: str, rank: int) -> dict[str, Any]:
        try:
            word = self._run.read(f"{kind}.{rank}.json") or {}
        except ValueError:
            word = {}  # between two writes, on a file system where a rename is not one step
        return word if word.get("attempt") == self._attempt else {}


def _sentence(last: list[int], world: int, words: list[dict[str, Any]], seen: list[dict[str, Any]], limit_s: float) -> str:
    rank = next((one for one in last if not words[one]), last[0])  # who does not even answer is the one
    word = words[rank] or seen[rank]
    at = f"at step {word['step']:,} (epoch {word['epoch']}), {word['doing']}" if word.get("place") else "before its first step"
    where = f": {word['stack']}" if word.get("stack") else ", and does not answer: it is stopped, or in native code that does not return"
    if world > 1 and len(last) == world:
        return f"The {world} training processes got no further for {duration(limit_s)}. They stand {at}{where}."
    name = "The training process" if world == 1 else f"Training process {rank} of {world}"
    return f"{name} got no further for {duration(limit_s)}. It stands {at}{where}."


def _hint(limit_s: float) -> str:
    return f"The stacks of all threads are at the end of the log; --max-stall {duration(2 * limit_s).replace(' ', '')} gives it longer."


def duration(seconds: float) -> str:
    """Return a time as it is said: 10 min."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
