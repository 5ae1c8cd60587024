"""Look: what was made from what, and what is going on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import layered
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.references import KINDS, Ref, named
from jupyter_mlp.store import modes, scheduled
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    from jupyter_mlp.serving.routing import Variant

_LOOKING = ("monitor", "verify", "pin")  # they look at things and make nothing that others build on
_NEIGHBOURS = 400  # activities drawn at most

Edge = tuple[str, str, str]  # (used, made, verb)
Reached = tuple[list[Activity], set[str]]


@dataclass(frozen=True, repr=False)
class Graph(Shown):
    """What was made from what: references and the activities between them.

    Attributes:
        cells: in a notebook, of each cell that ran: its number, its first line, whether a clean run gives what it shows, and why not.
    """

    root: str | None
    edges: tuple[Edge, ...]
    cells: tuple[tuple[int, str, str, str], ...] = ()

    @property
    def ref(self) -> str:
        """The reference the graph was asked for; empty for the whole workspace."""
        return self.root or ""

    def to_dict(self) -> dict[str, Any]:
        """Return the edges as JSON types."""
        edges = [{"used": u, "made": m, "by": v} for u, m, v in self.edges]
        cells = [dict(zip(("number", "source", "state", "reason"), cell, strict=True)) for cell in self.cells]
        return {"kind": "graph", "root": self.root, "edges": edges, "cells": cells}

    def card(self) -> Card:
        """Return the drawing."""
        tables = [Table(["cell", "source", "a clean run", "why"], self.cells, "The cells of this notebook")] if self.cells else []
        if not self.edges:
            notes = ["Make a table first: %mlp_table lake.NAME FILE_OR_FRAME"]
            return Card("Nothing was made from anything here yet.", tables=tables, notes=notes)
        links = layered.reduced([(_short(used), _short(made), verb) for used, made, verb in self.edges])
        title = f"Lineage of {_short(self.root)}" if self.root else f"Lineage: the newest {len(self.edges)} links"
        return Card(title, tables=tables, text=layered.as_text(links), svg=layered.as_svg(links))


@dataclass(frozen=True)
class Serving:
    """An endpoint that was not stopped: who answers there, with which share of the requests, and whether it does.

    Attributes:
        state: `ready`, `cold`, `starting`, `down` or `unreachable`.
        url: None before it first came up.
    """

    name: str
    state: str
    url: str | None
    variants: tuple[Variant, ...]

    @property
    def said(self) -> str:
        """Its state in words."""
        from jupyter_mlp.serving import places  # not where there are no endpoints: it would keep the first magic waiting

        return places.said(self.state)


@dataclass(frozen=True, repr=False)
class Status(Shown):
    """What is running, what was made last, and where."""

    workspace: str
    running: tuple[Activity, ...]
    recent: tuple[Activity, ...]
    counts: tuple[tuple[str, int], ...]
    queued: tuple[tuple[str, int], ...] = ()
    endpoints: tuple[Serving, ...] = ()

    @property
    def ref(self) -> str:
        """The workspace's folder."""
        return self.workspace

    def to_dict(self) -> dict[str, Any]:
        """Return the activities as JSON types."""
        return {
            "kind": "status",
            "workspace": self.workspace,
            "running": [a.to_dict() for a in self.running],
            "recent": [a.to_dict() for a in self.recent],
            "counts": dict(self.counts),
            "queued": dict(self.queued),
            "endpoints": [{**vars(one), "variants": [v.to_dict() for v in one.variants]} for one in self.endpoints],
        }

    def card(self) -> Card:
        """Return running and recent activities as tables."""
        tables = [Table(["running", "name", "state", "since", "by"], [self._row(a) for a in self.running])] if self.running else []
        serving = [(e.name, e.said, ", ".join(map(str, e.variants)), e.url) for e in self.endpoints]
        tables += [Table(["endpoint", "state", "models", "url"], serving)] if serving else []
        rows = [(a.kind, a.state, " ".join(r.short for r in a.made) or a.name or "", _took(a), _ago(a.started_at)) for a in self.recent]
        tables += [Table(["activity", "state", "made", "took", "when"], rows)] if rows else []
        notes = [] if rows else ["Nothing yet. Begin with a table: %mlp_table lake.NAME FILE_OR_FRAME"]
        notes += [f"{e.name} is down. Serve the same again: mlp endpoint {e.name} --start" for e in self.endpoints if e.state == "down"]
        facts = [("workspace", self.workspace), *((f"{kind}s", count) for kind, count in self.counts)]
        return Card("Status", facts, tables, notes=notes)

    def _row(self, activity: Activity) -> tuple[Any, ...]:
        place = dict(self.queued).get(activity.id)
        state = "running" if place is None else f"queued, place {place}"
        return activity.kind, activity.name, state, _ago(activity.started_at), activity.user


def graph(ref: str | Shown | None = None) -> Graph:
    """Return what leads to and from a reference, or the newest links of the workspace.

    Raises:
        NotFoundError: there is no such thing.

    Example:
        >>> mlp.graph("dataset:trips")
    """
    workspace = current()
    if ref is None:
        recent = [a for a in workspace.activities.recent(limit=60) if a.made and a.kind not in _LOOKING]
        return Graph(None, (*_edges(reversed(recent)), *_schedules(workspace, recent)), _cells())
    asked = _any_kind(workspace, named(ref))
    scheduled.check_not_asked(asked)
    exact = workspace.activities.resolve(asked)
    return Graph(str(exact), tuple(_lineage(workspace, exact)))


def status() -> Status:
    """Return what is running and what was made last in the current workspace."""
    workspace = current()
    running = _running(workspace)
    kinds = ("table", "dataset", "recipe", "model", "endpoint", "snapshot")
    counts = tuple((kind, workspace.activities.count(kind)) for kind in kinds)
    recent = tuple(workspace.activities.recent(limit=10))
    made = tuple(count for count in counts if count[1])
    endpoints = tuple(_serving(workspace)) if dict(made).get("endpoint") else ()
    return Status(str(workspace.root), tuple(running), recent, made, _queued(workspace, running), endpoints)


def _cells() -> tuple[tuple[int, str, str, str], ...]:
    """What is known of the cells of this notebook; none outside one."""
    if modes.running_shell() is None:
        return ()
    from jupyter_mlp.notebook import document, record

    path = document.running_path()
    found = record.of_kernel(document.read(path) if path else None).cells
    return tuple((cell.number, cell.source.strip().splitlines()[0][:60], cell.state.state, cell.state.reason) for cell in found)


def _running(workspace: Workspace) -> list[Activity]:
    """What truly runs: whoever was killed is recorded as failed on the way."""
    recorded = workspace.activities.recent(limit=50, state="running")
    if not recorded:
        return []
    from jupyter_mlp.store.jobs import settled

    return [now for now in (settled(workspace, activity) for activity in recorded) if now.state == "running"]


def _serving(workspace: Workspace) -> Iterator[Serving]:
    from jupyter_mlp.serving import places, routing
    from jupyter_mlp.store import deployments

    for name, state in places.states(workspace, deployments.names(workspace)).items():
        if state != "stopped":
            folder = deployments.folder(workspace, name)
            yield Serving(name, state, folder.address, routing.read(folder.wanted()["variants"]))


def _queued(workspace: Workspace, running: Iterable[Activity]) -> tuple[tuple[str, int], ...]:
    if not any(activity.kind == "train" for activity in running):
        return ()
    from jupyter_mlp.store.queue import places

    return tuple(places(workspace).items())


def _any_kind(workspace: Workspace, text: str) -> Ref:
    if ":" in text.split("@")[0]:
        return Ref.parse(text)
    name = text.split("@")[0]
    kind = next((kind for kind in KINDS if name in workspace.activities.names(kind)), "dataset")
    return Ref.parse(text, kind=kind)


def _lineage(workspace: Workspace, start: Ref) -> list[Edge]:
    """What leads to `start` and what came of it: only things on such a path, so a snapshot does not pull in all it holds."""
    before, before_refs = _reached(workspace, start, _made_by)
    after, after_refs = _reached(workspace, start, _used_by)
    reached = before_refs | after_refs
    activities = sorted({a.id: a for a in (*before, *after)}.values(), key=lambda activity: activity.seq)
    edges = [edge for edge in _edges(activities) if edge[0] in reached and edge[1] in reached]
    return [*edges, *_schedules(workspace, after, [start])]


def _schedules(workspace: Workspace, activities: Sequence[Activity], further: Iterable[Ref] = ()) -> Iterator[Edge]:
    """From what was made to the schedules whose notebook made it, and from tables to those that wait for their versions."""
    made = [(ref, activity.notebook) for activity in activities for ref in activity.made]
    refs = {ref for ref, _ in made} | set(further)
    for one in scheduled.standing_on(workspace.database, refs, [notebook for _, notebook in made]):
        told = Ref(scheduled.KIND, one.name)
        awaited = {ref for ref in refs if ref.kind == "table" and ref.name == one.spec.get("on")}
        for ref in sorted(awaited | {ref for ref, notebook in made if notebook == one.spec["notebook"]}):
            yield str(ref), str(told), scheduled.KIND


def _reached(workspace: Workspace, start: Ref, step: Callable[[Workspace, Ref], Iterable[tuple[Activity, Iterable[Ref]]]]) -> Reached:
    activities: dict[str, Activity] = {}
    refs, waiting = {str(start)}, [start]
    while waiting and len(activities) < _NEIGHBOURS:
        for activity, further in step(workspace, waiting.pop()):
            if activity.kind in _LOOKING:
                continue
            activities[activity.id] = activity
            fresh = [ref for ref in further if str(ref) not in refs]
            refs |= {str(ref) for ref in fresh}
            waiting += fresh
    return list(activities.values()), refs


def _made_by(workspace: Workspace, ref: Ref) -> Iterable[tuple[Activity, Iterable[Ref]]]:
    maker = workspace.activities.maker(ref)
    if maker is not None:
        run = [one for one in maker.made if one.kind == "run" and ref.kind == "model"]
        yield maker, [*maker.used, *run]


def _used_by(workspace: Workspace, ref: Ref) -> Iterable[tuple[Activity, Iterable[Ref]]]:
    users = [user for user in workspace.activities.users(ref) if user.state == "finished"]
    maker = workspace.activities.maker(ref) if ref.kind == "run" else None
    yield from ((user, user.made) for user in [*users, *([maker] if maker else [])])


def _edges(activities: Iterable[Activity]) -> Iterator[Edge]:
    seen = set()
    for activity in activities:
        run = next((ref for ref in activity.made if ref.kind == "run"), None)
        for made in activity.made:
            for used in [run] if run and made != run else activity.used:  # data -> run -> model
                edge = (str(used), str(made), activity.kind)
                if edge not in seen and used != made:
                    seen.add(edge)
                    yield edge


def _short(text: str | None) -> str:
    ref = Ref.parse(text or "")
    return ref.short.split("@")[0] if ref.kind == "file" else ref.short


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _took(activity: Activity) -> str:
    return "-" if activity.seconds is None else f"{activity.seconds:.2f} s"
