"""The same submission from two processes at the same moment, again and again: one job of each pair.

    python tests/proof_duplicates.py [--pairs 1000]      prints the figures; 1 when a pair became two jobs, or none

Two processes meet at a barrier before each pair and call `train` with the same code, data and settings. Everything up to
the start of the job is real; the launcher only notes that it was asked, so that no training stands in the way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import proof_kills

from jupyter_mlp.core import plugins
from jupyter_mlp.core.clusters import Cluster, Sight
from jupyter_mlp.core.shapes import Node, Shape
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import current

_SIDES = 2


class Noting:
    """A launcher whose jobs are a line in the run's folder, and never end."""

    def __init__(self, cluster: Cluster) -> None:
        pass

    def nodes(self) -> list[Node]:
        return []

    def shape(self, gpus: int) -> Shape:
        return Shape(1, gpus, "nowhere")

    def submit(self, folder: Path, workspace: Path) -> Mapping[str, Any]:
        with (folder / "started").open("a") as handle:
            handle.write("started\n")
        return {"folder": str(folder)}

    def look(self, handle: Mapping[str, Any]) -> Sight:
        return Sight()

    def cancel(self, handle: Mapping[str, Any]) -> None:
        RunFolder(Path(handle["folder"])).end("cancelled")


@dataclass
class Counted:
    """What became of the pairs."""

    pairs: int
    jobs: int
    starts: int
    agreed: int  # pairs whose two sides were given the same run
    folders: int
    seconds: float

    @property
    def well(self) -> bool:
        return self.pairs == self.jobs == self.starts == self.agreed == self.folders


def submitted(pairs: int, folder: Path) -> Counted:
    """Submit every pair and count."""
    (folder / "net.py").write_text(proof_kills.NET)
    os.environ["MLP_WORKSPACE"] = str(folder / "workspace")
    proof_kills.publish_rows(current())
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(_SIDES), context.Queue()
    sides = [context.Process(target=_side, args=(str(folder), pairs, barrier, answers)) for _ in range(_SIDES)]
    begun = time.perf_counter()
    for side in sides:
        side.start()
    given = [answers.get(timeout=600) for _ in sides]
    for side in sides:
        side.join()
    runs = list((folder / "workspace" / "runs").iterdir())
    with current().database.transaction() as connection:
        [row] = connection.execute("SELECT COUNT(*) AS count FROM activities WHERE kind = 'train'")
    return Counted(
        pairs=pairs,
        jobs=int(row["count"]),
        starts=sum(len((run / "started").read_text().splitlines()) for run in runs),
        agreed=sum(1 for refs in zip(*given, strict=True) if len(set(refs)) == 1),
        folders=len(runs),
        seconds=time.perf_counter() - begun,
    )


def _side(folder: str, pairs: int, barrier: Any, answers: Any) -> None:
    import jupyter_mlp as mlp

    plugins._KNOWN["launchers"]["noting"] = ("proof_duplicates:Noting", "")
    found = []
    for number in range(pairs):
        barrier.wait()
        run = mlp.train(f"{folder}/net.py:Net", data="rows", target="y", settings={"nap": number / 1000}, cluster="noting", detach=True)
        found.append(run.ref)
    answers.put(found)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="the same submission from two processes at the same moment")
    parser.add_argument("--pairs", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlp-duplicates-") as folder:
        found = submitted(given.pairs, Path(folder))
    print(
        f"{found.pairs:,} pairs of concurrent duplicate submissions: {found.jobs:,} jobs, started {found.starts:,} times, "
        f"{found.agreed:,} pairs told the same run, {found.folders:,} run folders ({found.seconds:.0f} s)"
    )
    return 0 if found.well else 1


if __name__ == "__main__":
    sys.exit(main())
