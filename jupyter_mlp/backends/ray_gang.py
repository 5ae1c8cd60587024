"""Inside a Ray job: the supervisor as its driver, and one actor for each rank, placed all or not at all.

    python -m jupyter_mlp.backends.ray_gang RUN_FOLDER WORKSPACE      the entry point that Ray is sent

A placement group has a bundle for each GPU; while Ray has no room for all of them the job waits and takes none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jupyter_mlp.backends import gang, ray_session
from jupyter_mlp.backends.attempting import Gang, Room
from jupyter_mlp.backends.joining import HOST
from jupyter_mlp.core.clusters import Cluster
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.core.queueing import RUNS, WAITS
from jupyter_mlp.store.jobs import RunFolder

_SETTLE_S = 1.0
_MISSED_S = 60.0  # in which Ray finds out that a node does not answer any more: five looks, three seconds between them


class Rank:
    """An actor that becomes one rank: Ray's own process is the training process."""

    def train(self, folder: str, told: Mapping[str, str]) -> int:
        """Train; return the exit status."""
        from jupyter_mlp.backends import worker
        from jupyter_mlp.backends.joining import joined

        os.environ |= {**told, HOST: ray.util.get_node_ip_address()}
        joined(Path(folder))
        return worker.main(Path(folder))


class RayGang(gang.Words):
    """The ranks of an attempt, and the placement group that they lie in."""

    devices: tuple[int, ...] = ()  # Ray gives them out

    def __init__(self, run: RunFolder, spec: Mapping[str, Any]) -> None:
        super().__init__(run, int(spec["gpus"]))
        cluster = Cluster.from_dict(spec["where"])
        self._bundle = {"CPU": float(cluster.cpus_per_gpu), **({"GPU": 1.0} if spec["device"] == "gpu" else {})}
        self._ticket = {"host": f"cluster {cluster.name}", "needs": self._world, "priority": spec["priority"], "devices": []}
        self._group: PlacementGroup | None = None
        self._actors: list[Any] = []
        self._calls: list[Any] = []
        self._nodes: dict[int, str] = {}  # on which node each rank lies

    # -- room

    @property
    def state(self) -> str:
        """Whether all bundles have their place."""
        return str((self._run.read("ticket.json") or {}).get("state", WAITS))

    def ask(self) -> tuple[str, int]:
        """Ask for all bundles at once; what a lost node has broken is asked for anew."""
        if self._group is not None and self._told_of_group() not in ("CREATED", "PENDING"):
            remove_placement_group(self._group)
            self._group = None
        if self._group is None:
            self._group = placement_group([self._bundle] * self._world, strategy="PACK")
        state = RUNS if self._told_of_group() == "CREATED" else WAITS
        if self.state != state or self._run.read("ticket.json") is None:
            self._run.write("ticket.json", {**self._ticket, "state": state})
        return state, 0

    def leave(self) -> None:
        """A group that waits keeps its place."""

    def _told_of_group(self) -> str:
        return str(placement_group_table(self._group).get("state", "PENDING"))

    # -- ranks

    def start(self, attempt: int, environment: Mapping[str, str]) -> bool:
        """Start an attempt: an actor in each bundle."""
        assert self._group is not None, "the supervisor asks for room before it starts"
        self.begin(attempt)
        told = {**environment, "MLP_ATTEMPT": str(attempt), "WORLD_SIZE": str(self._world)}
        self._nodes = {int(rank): str(node) for rank, node in placement_group_table(self._group)["bundles_to_node_id"].items()}
        for rank in range(self._world):
            place = PlacementGroupSchedulingStrategy(self._group, rank)
            shares = {"num_cpus": self._bundle["CPU"], "num_gpus": self._bundle.get("GPU", 0.0)}
            actor = ray.remote(Rank).options(scheduling_strategy=place, max_restarts=0, **shares).remote()
            self._actors.append(actor)
            self._calls.append(actor.train.remote(str(self._run.path), {**told, "RANK": str(rank)}))
        return True

    def watch(self) -> bool:
        """Return whether any rank still runs; where one has ended badly, the others are ended."""
        if not self._calls:
            return False
        running = self._look(0.0)
        if self._first:
            self._look(_SETTLE_S)  # the others notice before Ray does who was killed
            self._until_told()
        if self._first or not running:
            self.stop()  # an actor's process goes with it
            return False
        return True

    def _look(self, wait_s: float) -> list[Any]:
        """Write down how ranks have ended; return what still runs."""
        ended, running = ray.wait(self._calls, num_returns=len(self._calls), timeout=wait_s)
        for call in ended:
            self._look_at(self._calls.index(call), call)
        return running

    def _until_told(self) -> None:
        """Wait for Ray to say who was lost, where all that have ended say that they lost another: a node is missed after a while only."""
        deadline = time.monotonic() + _MISSED_S
        while time.monotonic() < deadline and all(self._word(rank).get("again") for rank in self._first):
            if not self._look(_SETTLE_S):
                return

    def stop(self) -> None:
        """End all ranks."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._calls = [], []

    def _look_at(self, rank: int, call: Any) -> None:
        if rank in self._first:
            return
        try:
            if ray.get(call) == 0:
                return
        except RayError as error:
            self._ends[rank] = _told(error, lambda: self._is_lost(rank))
        self._first.append(rank)

    def _is_lost(self, rank: int) -> bool:
        """Whether the node of a rank is gone, once Ray has found out."""
        deadline = time.monotonic() + _MISSED_S
        while time.monotonic() < deadline:
            if not any(one["Alive"] for one in ray.nodes() if one["NodeID"] == self._nodes.get(rank)):
                return True
            time.sleep(_SETTLE_S)
        return False


def _told(error: RayError, is_lost: Callable[[], bool]) -> str:
    """How a rank ended, in a sentence, from Ray's words.

    Args:
        is_lost: finds out whether its node is gone, where Ray does not know yet.
    """
    if isinstance(error, OutOfMemoryError):
        return "was killed by Ray because its node had no memory left"
    if "node has died" in str(error):
        return "was lost with its node"
    if isinstance(error, ActorUnavailableError):
        return "was lost with its node" if is_lost() else "could not be reached any more"
    return "was killed (by somebody, or for want of memory)"


def main(folder: Path, root: Path) -> int:
    """Be the supervisor of a run."""

    def made(run: RunFolder, spec: dict[str, Any]) -> tuple[Gang, Room]:
        ray.init(log_to_driver=False, logging_level="warning")
        if found := ray_session.stray(ray.get_runtime_context().get_session_name()):
            raise JobError(*found)
        ranks = RayGang(run, spec)
        return ranks, ranks

    return gang.see_through(folder, root, made)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
