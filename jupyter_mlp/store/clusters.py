"""The clusters of a workspace, by name, and what is seen of a job there."""

from __future__ import annotations

from jupyter_mlp.core import plugins
from jupyter_mlp.core.clusters import GONE, LOCAL, Cluster, Sight
from jupyter_mlp.core.entities import QUEUED, RUNNING
from jupyter_mlp.core.errors import NotFoundError, nearest
from jupyter_mlp.core.protocols import Launcher
from jupyter_mlp.store import jobs, queue
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace


def named(workspace: Workspace, name: str) -> Cluster:
    """Return a cluster of the settings; a kind alone (slurm, on its login node) is one with nothing set.

    Raises:
        NotFoundError: there is none of that name; the hint has the nearest and how one is named.
    """
    known = known_to(workspace)
    kinds = plugins.names("launchers")
    if name in known:
        return known[name]
    if name in kinds:
        return Cluster(name, name)
    hint = f'{nearest(name, {*known, *kinds})} A new one: [cluster.{name}] kind = "slurm" or "ray", in {workspace.root / "mlp.toml"}'
    raise NotFoundError(f"There is no cluster {name!r}.", hint)


def known_to(workspace: Workspace) -> dict[str, Cluster]:
    """Return this machine and all clusters that the settings name."""
    return {LOCAL.name: LOCAL, **workspace.settings.cluster}


def launcher(cluster: Cluster) -> Launcher:
    """Return what speaks to a cluster."""
    found: Launcher = plugins.load("launchers", cluster.kind)(cluster)
    return found


def sight(folder: RunFolder) -> Sight:
    """Return what is true of a job that has not ended: it waits, it runs, or its cluster does not answer."""
    if queue.is_waiting(folder):
        there = jobs.cluster_of(folder)
        why = "" if there == LOCAL else f"The cluster {there.name} has not all that it asks for free at once."
        return Sight(QUEUED, why)
    seen = jobs.look(folder)
    return Sight(RUNNING) if seen.state == GONE else seen  # gone, and about to go on
