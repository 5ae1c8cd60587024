"""From a number of GPUs to nodes x GPUs per node, by what a cluster says it has; or why not, and what would fit.

nodes of 8 8 8 8      --gpus 32 -> 4 x 8      --gpus 12 -> 2 x 6      --gpus 11 -> 10 or 12      --gpus 33 -> no
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_mlp.core.errors import InvalidInputError


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        gpus, free: in all, and those that no job has now. `cores`: of its processor.
        down: why it takes no jobs; empty when it does.
    """

    name: str
    gpus: int
    free: int
    cores: int
    down: str = ""


@dataclass(frozen=True)
class Shape:
    """How a job lies on a cluster.

    Attributes:
        on: a sentence about it. `device`: gpu, or cpu where the cluster has no GPU.
    """

    nodes: int
    per_node: int
    on: str = ""
    device: str = "gpu"


def shape(gpus: int, nodes: Sequence[Node], where: str) -> Shape:
    """Return the shape of a job with `gpus` processes: the fewest nodes with the same number on each.

    Raises:
        InvalidInputError: it can never fit; the message says what there is, the hint what would fit.
    """
    up = [node for node in nodes if not node.down]
    device = "gpu" if any(node.gpus for node in nodes) else "cpu"
    room = sorted((node.gpus if device == "gpu" else node.cores for node in up), reverse=True)
    count = _smallest(gpus, room)
    if count is None:
        raise InvalidInputError(f"--gpus {gpus}: {where} has {has(nodes)}.", _would_fit(gpus, room))
    per_node = gpus // count
    spread = f"{count} x {per_node}" if count > 1 else "on one node"
    what = f"{gpus} of {sum(room):,} GPUs" if device == "gpu" else f"no GPU there: {_many(gpus, 'CPU process')}"
    return Shape(count, per_node, f"{what} of {where}, {spread}", device)


def has(nodes: Sequence[Node]) -> str:
    """Say what a cluster has: 32 GPUs (4 nodes of 8)."""
    up = [node for node in nodes if not node.down]
    down = f", and {_many(len(nodes) - len(up), 'node')} down" if len(up) < len(nodes) else ""
    if not any(node.gpus for node in nodes):
        return f"no GPU and {_many(sum(node.cores for node in up), 'core')} on {_many(len(up), 'node')}{down}"
    sizes = Counter(node.gpus for node in up if node.gpus)
    told = " and ".join(f"{_many(count, 'node')} of {size}" for size, count in sorted(sizes.items(), reverse=True))
    return f"{_many(sum(node.gpus for node in up), 'GPU')}{f' ({told})' if told else ''}{down}"


def _smallest(gpus: int, room: Sequence[int]) -> int | None:
    """Return on how few nodes, the largest first, as many processes each fit; None for nowhere."""
    return next((count for count in range(1, len(room) + 1) if gpus % count == 0 and gpus // count <= room[count - 1]), None)


def _would_fit(gpus: int, room: Sequence[int]) -> str:
    fits = [count for count in range(1, sum(room) + 1) if _smallest(count, room)]
    if not fits:
        return "Wait until a node is up, or give another --cluster; %mlp_clusters shows them."
    near = [max((fit for fit in fits if fit < gpus), default=None), min((fit for fit in fits if fit > gpus), default=None)]
    told = " or ".join(f"--gpus {fit} ({_smallest(fit, room)} x {fit // (_smallest(fit, room) or 1)})" for fit in near if fit)
    return f"What fits next: {told}; or give another --cluster. %mlp_clusters shows them."


def _many(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"
