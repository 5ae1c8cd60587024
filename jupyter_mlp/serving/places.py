"""The place of each endpoint: this machine, or a cluster; found by name, so that the verbs know none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from jupyter_mlp.core import plugins
from jupyter_mlp.core.clusters import LOCAL, Cluster
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, MissingPackageError, UnreachableError
from jupyter_mlp.core.protocols import EndpointPlace
from jupyter_mlp.serving.warmth import COLD
from jupyter_mlp.store import clusters, deployments
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

_AT_ONCE = 16


def of(workspace: Workspace, folder: EndpointFolder) -> EndpointPlace:
    """Return where an endpoint runs, or did last; what the settings say of its cluster now counts."""
    there = folder.where
    return _speaking_to(clusters.known_to(workspace).get(there.name, there))


def asked(workspace: Workspace, folder: EndpointFolder, cluster: str | None) -> EndpointPlace:
    """Return where an endpoint should run: where it does when `cluster` is None.

    Raises:
        NotFoundError: there is no such cluster. InvalidInputError: endpoints cannot run there.
        ConflictError: it runs elsewhere now.
    """
    if cluster is None or cluster == folder.where.name:
        return of(workspace, folder)
    there = clusters.named(workspace, cluster)
    if folder.running:
        here = "this machine" if folder.where == LOCAL else f"the cluster {folder.where.name}"
        raise ConflictError(
            f"{folder.name} runs on {here} already.", f"Leave --cluster out, or stop it first: mlp endpoint {folder.name} --stop"
        )
    return _speaking_to(there)


def state(workspace: Workspace, folder: EndpointFolder) -> str:
    """Return `ready`, `cold`, `starting`, `stopped`, `down` or `unreachable`, as it is now."""
    if not folder.stamp() or folder.wanted().get("stopped"):
        return "stopped"
    try:
        place = of(workspace, folder)
    except (InvalidInputError, MissingPackageError):  # what speaks to its cluster is not installed here, and others must be shown
        return "unreachable"
    return place.state(folder.path)


def said(state: str) -> str:
    """Return a state as people read it."""
    return "ready (cold: loads at the next request)" if state == COLD else state


def states(workspace: Workspace, names: Iterable[str]) -> dict[str, str]:
    """Return the state of each endpoint, all asked at the same time: one that hangs costs its two seconds once."""
    wanted = list(names)
    with ThreadPoolExecutor(_AT_ONCE) as asking:
        found = asking.map(lambda name: state(workspace, deployments.folder(workspace, name)), wanted)
        return dict(zip(wanted, found, strict=True))


def undo(place: EndpointPlace, folder: EndpointFolder, old: Mapping[str, Any], state: Mapping[str, Any], fresh: bool) -> None:
    """A deploy that failed leaves the endpoint as it was: still serving, or not running."""
    if fresh:
        folder.want({**state, "generation": state["generation"] + 1, "stopped": True})
        with suppress(JobError):  # what went wrong first is what to show
            place.stop(folder.path)
    else:
        folder.want({**old, "generation": state["generation"] + 1})


def stop(workspace: Workspace, folder: EndpointFolder) -> None:
    """End an endpoint; the log of requests and the token stay."""
    with folder.locked("deploy"):
        place = of(workspace, folder)
        wanted = folder.wanted()
        folder.want({**wanted, "generation": int(wanted.get("generation", 0)) + 1, "stopped": True})
        try:
            place.stop(folder.path)
        except UnreachableError:
            folder.want(wanted)  # it may run on, and then that is the truth
            raise


def stop_all(workspace: Workspace) -> None:
    """End every endpoint of a workspace, as when a scratch workspace is dropped."""
    for name in deployments.names(workspace):
        stop(workspace, deployments.folder(workspace, name))


def _speaking_to(cluster: Cluster) -> EndpointPlace:
    if cluster.kind not in plugins.names("places"):
        raise InvalidInputError(
            f"Endpoints do not run on {cluster.kind}, which the cluster {cluster.name} is.",
            "Leave --cluster out to serve from this machine, or name a Ray cluster; mlp clusters shows them.",
        )
    found: EndpointPlace = plugins.load("places", cluster.kind)(cluster)
    return found
