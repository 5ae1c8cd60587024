"""Which versions a workspace's own rules let go: those that nobody uses and that are old, or too many for the disk.

Never the newest version of a name, never what a run, a model, a snapshot, an endpoint, a pin or anything else that stands
was made from. What only an expiring version was made from may expire with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from jupyter_mlp.core.entities import CANCELLED, FAILED
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.holders import Record, Records

_KINDS = ("table", "dataset")  # what can be made again from its record; models and snapshots go only when they are told to


def expired(
    records: Records,
    now: float,
    *,
    keep_days: float,
    keep_bytes: float,
    newest: set[Ref],
    files: Callable[[Ref], Iterable[str]],
    size: Callable[[str], int],
) -> list[Record]:
    """Return the records whose products the rules let go, oldest first.

    Args:
        newest: what the names mean now. `files`: the files of a version; `size`: bytes of a file.
        keep_days, keep_bytes: the rules; 0 switches one off.
    """
    if not keep_days and not keep_bytes:
        return []
    versions = {ref: set(files(ref)) for ref in records.makers if ref.kind in _KINDS}
    uses: dict[str, int] = {}  # how many of the versions that stand need a file
    for one in versions.values():
        for path in one:
            uses[path] = uses.get(path, 0) + 1
    held = sum(size(path) for path in uses)
    needed = {record.id: _needed(records, record) for record in records.records}
    found: list[Record] = []
    gone: set[str] = set()
    waiting = [(record.at, record.row["seq"], record) for record in records.records if _may_go(record, newest) and not needed[record.id]]
    heapq.heapify(waiting)
    while waiting:
        at, _, record = heapq.heappop(waiting)
        too_old = keep_days and at < now - keep_days * 86_400
        if not too_old and not (keep_bytes and held > keep_bytes):
            break
        found.append(record)
        gone.add(record.id)
        for ref in record.made:
            if any(maker.id not in gone for maker in records.makers[ref]):
                continue  # it stands by another record too
            for path in versions.get(ref, ()):
                uses[path] -= 1
                held -= 0 if uses[path] else size(path)
        for ref in record.holds:
            for maker in records.makers.get(ref, ()):
                waited = record.id in needed[maker.id]
                needed[maker.id].discard(record.id)
                if waited and not needed[maker.id] and _may_go(maker, newest):
                    heapq.heappush(waiting, (maker.at, maker.row["seq"], maker))
    return found


def ended_badly(records: Records, now: float, keep_days: float) -> list[Record]:
    """Return the failed and cancelled runs whose folders are older than the rule."""
    bad = (record for record in records.records if record.kind == "train" and record.state in (FAILED, CANCELLED))
    return [record for record in bad if keep_days and record.at < now - keep_days * 86_400]


def _may_go(record: Record, newest: set[Ref]) -> bool:
    return bool(record.made) and all(ref.kind in _KINDS and ref not in newest for ref in record.made)


def _needed(records: Records, record: Record) -> set[str]:
    return {one.id for ref in record.made for one in records.holders.get(ref, ()) if one.id != record.id}
