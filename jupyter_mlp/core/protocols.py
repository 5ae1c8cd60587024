"""What an outside system must be able to do: one small protocol each, fulfilled by one file in `backends/`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jupyter_mlp.core.clusters import Cluster, Sight
from jupyter_mlp.core.shapes import Node, Shape


class Launcher(Protocol):
    """Starts training jobs on one cluster. All launchers run the same worker from the same run folder.

    Whatever asks the cluster raises UnreachableError when it does not answer, and says why; only `look` says so itself.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Remember the cluster; nothing is asked yet."""
        ...

    def nodes(self) -> Sequence[Node]:
        """Return the machines that jobs can run on."""
        ...

    def shape(self, gpus: int) -> Shape:
        """Return how a job lies on it; InvalidInputError refuses what can never fit, with what would."""
        ...

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        """Start the job described in the run folder, or what watches it, unless it runs; return what finds it again, as JSON types.

        Asked again for a job that was killed, it goes on from the job's last checkpoint; JobError says that it cannot.
        """
        ...

    def look(self, handle: Mapping[str, Any]) -> Sight:
        """Return what the engine says of the job that `submit` started; asked ten times a second, it answers at once."""
        ...

    def cancel(self, handle: Mapping[str, Any]) -> None:
        """End the job, which knows of the wish from its run folder; it is recorded as cancelled when this returns."""
        ...


class EndpointPlace(Protocol):
    """Where endpoints run. In all places the same application follows the same endpoint folder, so a swap is a word in that folder.

    `folder` is the endpoint's (store/deployments.py). Whatever asks a cluster raises UnreachableError when it does not answer.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Remember the cluster; nothing is asked yet."""
        ...

    def settle(self, folder: Path, port: int | None, replicas: int | None, listen: str | None = None) -> Mapping[str, Any]:
        """Return what is wanted of this place beside models, for wanted.json.

        InvalidInputError or ConflictError refuses what cannot be here, before anything was changed.
        """
        ...

    def runs(self, folder: Path) -> bool:
        """Whether something here follows the folder, or is about to."""
        ...

    def bring(self, folder: Path, fresh: bool) -> str | None:
        """Have what is wanted served: start what follows the folder where `fresh`, wait until all of it has followed.

        Return what that says is wrong with the models, or None. JobError says that it does not come up.
        """
        ...

    def state(self, folder: Path) -> str:
        """Return `ready`, `starting`, `down`, or `unreachable` where nobody can say; at once."""
        ...

    def stop(self, folder: Path) -> None:
        """End what follows the folder; it is gone when this returns."""
        ...

    def log(self, folder: Path) -> str:
        """Say where to read what the endpoint's processes printed."""
        ...


class OnlineStore(Protocol):
    """Keeps values by key, in spaces that are replaced as a whole. Whatever asks it raises StorageError when it does not answer."""

    quick: bool  # answers from this machine: it may be asked in the event loop

    def __init__(self, address: str) -> None:
        """Connect."""
        ...

    def publish(self, space: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Replace a space by rows with different keys and no empty value: readers see all of them or none."""
        ...

    def get(self, space: str, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of some keys, in their order, None where there is none."""
        ...

    def drop(self, space: str) -> None:
        """Remove a space; one that is not there is removed already."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
