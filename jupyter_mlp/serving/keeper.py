"""Moves the ramps of an endpoint on a cluster, traffic back from what fails, and full logs into the lake: a process beside the records.

On this machine the host's parent does that. Replicas on a cluster cannot, because the records of a workspace are open to this
machine only. The process lives as long as the endpoint is meant to run: a log that nobody folds grows to its limit, and what is beyond
that is lost. While its machine is off the shares and logs stay as they are, and whoever looks at the endpoint next (`%mlp_endpoint`,
another deploy) starts it again.

    python -m jupyter_mlp.serving.keeper ENDPOINT_FOLDER
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.serving import places, ramp_keeper
from jupyter_mlp.serving.folding import Folding
from jupyter_mlp.store import processes
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.workspace import Workspace

_log = logging.getLogger(__name__)
_KEEP_S = 1.0


def ensure(folder: EndpointFolder) -> None:
    """Have an endpoint on a cluster kept, where nobody keeps it yet."""
    if folder.where != LOCAL and not folder.is_over() and not _lease(folder).held:
        argv = [sys.executable, "-m", "jupyter_mlp.serving.keeper", str(folder.path)]
        processes.spawn(argv, folder.log, {"PYTHONPATH": processes.import_path()}, Path(folder.wanted()["workspace"]))


def main(path: Path) -> int:
    """Keep one endpoint until it is stopped; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder = EndpointFolder(path)
    if _lease(folder).take() is None:
        return 0  # another does
    log = Folding(folder)
    while not folder.is_over() or log.running:
        try:
            log.look()
            if ramp_keeper.is_needed(folder):
                _keep(folder)
        except Exception as error:  # noqa: BLE001 - a cluster that does not answer now may answer in a moment
            _log.warning("the shares and the log stay as they are: %s", error)
        time.sleep(_KEEP_S)
    return 0


def _lease(folder: EndpointFolder) -> Lease:
    return Lease(folder.path / "keeper.lock")


def _keep(folder: EndpointFolder) -> None:
    wanted = folder.wanted()
    if folder.actual().get("generation") == wanted["generation"]:
        ramp_keeper.keep(folder)
    else:  # it was moved, by us or by somebody who was killed before he saw all replicas follow
        places.of(Workspace(Path(wanted["workspace"])), folder).bring(folder.path, fresh=False)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
