"""Look: where training can run, and how much of it is free now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from jupyter_mlp.core import shapes
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.core.entities import QUEUED, RUNNING
from jupyter_mlp.core.errors import MLPError, NotFoundError
from jupyter_mlp.core.shapes import Node
from jupyter_mlp.store import clusters as known
from jupyter_mlp.store import jobs, queue
from jupyter_mlp.store.workspace import Workspace, current


@dataclass(frozen=True)
class Place:
    """One cluster as it is now.

    Attributes:
        nodes: its machines. `error`: why nothing is known of them, and what to do; empty when it answered.
        running, queued: trainings of this workspace there.
    """

    cluster: Cluster
    nodes: tuple[Node, ...] = ()
    error: str = ""
    hint: str = ""
    running: int = 0
    queued: int = 0

    @property
    def gpus(self) -> int:
        """GPUs of the nodes that take jobs."""
        return sum(node.gpus for node in self.nodes if not node.down)

    @property
    def free(self) -> int:
        """GPUs that no job has now."""
        return sum(node.free for node in self.nodes if not node.down)


@dataclass(frozen=True, repr=False)
class Clusters(Shown):
    """Where training can run."""

    places: tuple[Place, ...]

    @property
    def ref(self) -> str:
        """A look is not recorded."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the clusters and their nodes as JSON types."""
        return {"kind": "clusters", "clusters": [_told(place) for place in self.places]}

    def card(self) -> Card:
        """Return a row for each cluster, and a sentence for each that did not answer."""
        rows = [_row(place) for place in self.places]
        notes = [" ".join(filter(None, (place.error, place.hint))) for place in self.places if place.error]
        down = [f"{place.cluster.name}: {node.name} is {node.down}" for place in self.places for node in place.nodes if node.down]
        if all(place.cluster == LOCAL for place in self.places):
            notes.append('Another one: [cluster.lab] kind = "slurm", or "ray" and its address, in mlp.toml of the workspace.')
        columns = ["--cluster", "kind", "GPUs free", "of", "has", "trainings", "where"]
        return Card("Clusters", tables=[Table(columns, rows)], notes=[*notes, *down])


def clusters() -> Clusters:
    """Return this machine and every cluster of the settings, asked now and all at once.

    Example:
        >>> mlp.clusters().to_dict()["clusters"][1]["free"]
        32
    """
    workspace = current()
    found = list(known.known_to(workspace).values())
    with ThreadPoolExecutor(len(found)) as pool:
        seen = pool.map(_seen, found)
        trainings, taken = _trainings(workspace), queue.taken(workspace)
        return Clusters(tuple(_with(place, trainings.get(place.cluster.name, {}), taken) for place in seen))


def _seen(cluster: Cluster) -> Place:
    try:
        return Place(cluster, tuple(known.launcher(cluster).nodes()))
    except MLPError as error:
        return Place(cluster, error=error.message, hint=error.hint)


def _trainings(workspace: Workspace) -> Mapping[str, Mapping[str, int]]:
    """Cluster -> how many trainings run there, and how many wait."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for activity in workspace.activities.recent(["train"], limit=1000, state=RUNNING):
        try:
            folder = jobs.folder_of(workspace, activity.id)
        except NotFoundError:  # recorded a moment ago: its job is not written yet
            continue
        if jobs.settled(workspace, activity).state == RUNNING:
            found[jobs.cluster_of(folder).name][known.sight(folder).state] += 1
    return found


def _with(place: Place, trainings: Mapping[str, int], taken: Iterable[int]) -> Place:
    """The place with its trainings; of this machine, the queue knows which GPUs they have."""
    nodes = place.nodes
    if place.cluster == LOCAL:
        nodes = tuple(replace(node, free=max(0, node.gpus - len(set(taken)))) for node in nodes)
    return replace(place, nodes=nodes, running=trainings.get(RUNNING, 0), queued=trainings.get(QUEUED, 0))


def _row(place: Place) -> Sequence[Any]:
    where = place.cluster.address or place.cluster.partition
    if place.error:
        return place.cluster.name, place.cluster.kind, None, None, "no answer", _at_work(place), where
    return place.cluster.name, place.cluster.kind, place.free, place.gpus, shapes.has(place.nodes), _at_work(place), where


def _at_work(place: Place) -> str | None:
    told = [f"{place.running} running"] * bool(place.running) + [f"{place.queued} queued"] * bool(place.queued)
    return ", ".join(told) or None


def _told(place: Place) -> dict[str, Any]:
    told = {"name": place.cluster.name, "kind": place.cluster.kind, "gpus": place.gpus, "free": place.free}
    trainings = {"running": place.running, "queued": place.queued}
    has = "" if place.error else shapes.has(place.nodes)
    return {**told, "has": has, **trainings, "nodes": [vars(node) for node in place.nodes], "error": place.error or None}
