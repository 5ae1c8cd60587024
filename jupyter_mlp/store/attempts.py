"""Attempts: a run goes on after a kill, and still reads as one story, without a line or a point lost or doubled.

What happened stays on disk as it happened. events.jsonl says where an attempt took over, and what the attempt before
had done beyond that checkpoint, which is done once more, is left out when the story is told:

    attempt 1   line 1 .. line 40 | checkpoint | line 41 .. 47 x killed
    attempt 2                                  | starting, loading | line 41 .. line 90
    told        line 1 .. line 40                                    line 41 .. line 90
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_mlp.store.jobs import RunFolder

BEGUN, TAKEN_OVER = "attempt", "taken_over"  # events with these keys are never left out: they tell the story
SUPERVISOR = "supervisor"  # "started" by whoever looked, "up" by itself

Cut = tuple[int, int]


@dataclass(frozen=True)
class Attempt:
    """One start of a run's processes.

    Attributes:
        resumes: the step it goes on from, None from the beginning.
        why: why the attempt before it ended; empty for the first.
        at: when, in seconds since 1970.
        made_room: whether the attempt before it ended for another job, which is no failure.
    """

    number: int
    resumes: int | None
    why: str
    at: float
    made_room: bool = False


def attempts(folder: RunFolder) -> list[Attempt]:
    """Return the attempts of a run, oldest first."""
    begun = [event for event in folder.events()[0] if BEGUN in event]
    return [
        Attempt(int(event[BEGUN]), event["resumes"], str(event["why"]), float(event["at"]), bool(event.get("made_room"))) for event in begun
    ]


def history(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the events of a run without those that were done once more."""
    told: list[tuple[int, dict[str, Any]]] = []
    for position, event in placed(read(folder.path / "events.jsonl")):
        if TAKEN_OVER in event:
            since = int(event[TAKEN_OVER]["events"])
            told = [(at, one) for at, one in told if at < since or _is_kept(one)]
        told.append((position, event))
    return [event for _, event in told]


def log(folder: RunFolder) -> str:
    """Return what a run printed, each line once; of several ranks one after the other."""
    ranks = sorted(folder.path.glob("log.*.txt"), key=lambda path: int(path.name.split(".")[1]))
    parts = [_told(folder, 0)]
    parts += [f"--- rank {rank} ---\n{text}" for rank, text in ((rank, _told(folder, rank)) for rank in range(1, len(ranks) + 1)) if text]
    return "".join(parts)


def log_of(folder: Path, rank: int) -> Path:
    """Return the file that a rank prints to."""
    return folder / ("log.txt" if rank == 0 else f"log.{rank}.txt")


def log_sizes(folder: Path, world: int) -> list[int]:
    """Return how many bytes each rank has printed so far."""
    return [size_of(log_of(folder, rank)) for rank in range(world)]


def read(path: Path) -> bytes:
    """Return a file's bytes, none where it does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def size_of(path: Path) -> int:
    """Return a file's size in bytes, 0 where it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def taken_over(step: int, events: int, before: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
    """Return the event that says: what stands between these places is done once more from here on.

    Args:
        step: of the checkpoint; 0 for the beginning.
        events: size of events.jsonl at the checkpoint. `before`, `after`: sizes of each rank's log, at the checkpoint
            and now, when the work goes on.
    """
    return {TAKEN_OVER: {"step": step, "events": events, "logs": [list(pair) for pair in zip(before, after, strict=True)]}}


def placed(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every whole event with the byte that its line begins at.

    A line that a full disk or a power cut broke off is in one piece with the next; that one is found behind it.
    """
    position = 0
    for line in data.splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                yield position, json.loads(line)
            except ValueError:
                start = line.rfind(b'{"at": ')
                if start > 0:
                    yield from placed(line[start:])
        position += len(line)


def _told(folder: RunFolder, rank: int) -> str:
    data = read(log_of(folder.path, rank))
    told, start = b"", 0
    for low, high in _joined(_cuts(folder, rank)):
        told += data[start:low]
        start = max(start, high)
    return (told + data[start:]).decode("utf-8", errors="replace")


def _cuts(folder: RunFolder, rank: int) -> Iterator[Cut]:
    for event in folder.events()[0]:
        logs = event.get(TAKEN_OVER, {}).get("logs", ())
        if rank < len(logs):
            yield int(logs[rank][0]), int(logs[rank][1])


def _joined(cuts: Iterator[Cut]) -> list[Cut]:
    """Return the ranges in order, overlapping ones as one."""
    found: list[Cut] = []
    for low, high in sorted(cuts):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        elif low < high:
            found.append((low, high))
    return found


def _is_kept(event: Mapping[str, Any]) -> bool:
    return any(key in event for key in (BEGUN, TAKEN_OVER, SUPERVISOR))
