"""32 GPUs at once: one gang of 32 real ranks on a real Slurm and on a real Ray, all or nothing, and a 33rd refused.

    python tests/proof_gang.py [slurm] [ray]      prints the figures; 1 when a promise is broken

The GPUs are declared; the ranks are torch processes that train together on the CPU, of about 300 MB each.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import proof_kills
import ray_server
import slurm_server

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import jobs
from jupyter_mlp.store.workspace import current

GPUS = 32
LIMIT_S = 540


@dataclass
class Found:
    """What was seen; `wrong` is empty when every promise was kept."""

    engine: str
    figures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.wrong.append(otherwise)


def gang(engine: str, folder: Path, ranks: int = GPUS) -> Found:
    """Train once with a rank on every GPU of the cluster; refuse one more."""
    found = Found(engine)
    workspace = current()
    proof_kills.publish_rows(workspace)
    (folder / "net.py").write_text(proof_kills.NET)

    def train(gpus: int) -> Any:
        asked: dict[str, Any] = {"max_epochs": 1, "batch_size": 32 * 13, "detach": True, "fresh": True, "checkpoint_every": 0}
        return mlp.train(f"{folder / 'net.py'}:Net", data="rows", target="y", gpus=gpus, cluster="lab", **asked)

    try:
        train(GPUS + 1)
        found.wrong.append("the 33rd was taken")
    except InvalidInputError as error:
        found.figures.append(f"a 33rd: {error.message} {error.hint}")
    begun = time.monotonic()
    run = train(ranks)
    run_folder = jobs.folder_of(workspace, run.id)
    joined = until(lambda: sum((run_folder.path / f"rank.{rank}.json").exists() for rank in range(ranks)) == ranks, run, begun)
    busy = mlp.clusters().to_dict()["clusters"][1]
    found.expect(busy["free"] == GPUS - ranks, f"{busy['free']} GPUs are free while {ranks} of {GPUS} are taken")
    ended = until(lambda: run.state not in ("running", "queued", "unreachable"), run, begun)
    words = [run_folder.read(f"rank.{rank}.json") or {} for rank in range(ranks)]
    found.expect(run.state == "finished", f"it is {run.state}: {run.error}")
    found.expect(all(word.get("ended") == "well" for word in words), "a rank did not end well")
    found.expect(len({word.get("pid") for word in words}) == ranks, "two ranks were one process")
    found.expect(len(run.attempts) == 1, f"it took {len(run.attempts)} attempts")
    found.figures.append(f"{ranks} ranks: all had begun {joined:.0f} s after the submission, all had ended well after {ended:.0f} s")
    return found


def until(true: Callable[[], bool], run: Any, begun: float) -> float:
    """Wait until something is true; return the seconds since the submission."""
    while not true():
        if time.monotonic() - begun > LIMIT_S:
            raise TimeoutError(f"{run!r}\n{run.logs()[-2000:]}")
        time.sleep(0.2)
    return time.monotonic() - begun


def main(engines: Sequence[str]) -> int:
    """Print the figures; 1 when a promise is broken."""
    broken = 0
    for engine in engines or ("slurm", "ray"):
        if engine == "slurm" and (lacks := slurm_server.missing()):
            print(f"slurm: left out, no {', '.join(lacks)}")
            broken = 1
            continue
        with tempfile.TemporaryDirectory(prefix="mlp-gang-") as name, ExitStack() as stack:
            folder = Path(name)
            os.environ["MLP_WORKSPACE"] = str(folder / "workspace")
            (folder / "workspace").mkdir()
            (folder / "server").mkdir()
            if engine == "slurm":
                server = stack.enter_context(slurm_server.running(folder / "server"))
                os.environ["SLURM_CONF"] = str(server.conf)
                settings = '[cluster.lab]\nkind = "slurm"\n'
            else:
                settings = f'[cluster.lab]\nkind = "ray"\naddress = "{stack.enter_context(ray_server.running()).web}"\n'
            (folder / "workspace" / "mlp.toml").write_text(settings)
            found = gang(engine, folder, int(os.environ.get("RANKS", GPUS)))
        print("\n".join([f"{engine}: {line}" for line in [*found.figures, *found.wrong]]), flush=True)
        broken |= bool(found.wrong)
    return broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
