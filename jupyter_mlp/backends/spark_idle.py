"""Stops the warm local Spark server when nobody has used it for a while, its idle Python before: `python -m ... FOLDER SECONDS`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from jupyter_mlp.backends.spark_daemons import Idle


def main(folder: str, patience_s: float) -> None:
    """Watch the server of `folder` until it is idle for `patience_s` seconds, or gone."""
    from pyspark.sql.connect.local_server import Discovery, LocalConnectServer

    os.environ["SPARK_LOCAL_CONNECT_DISCOVERY"] = str(Path(folder) / "connect.json")
    used = Path(folder) / "used"
    idle = Idle()
    watched: int | None = None
    while True:
        time.sleep(min(15.0, patience_s))
        with Discovery() as discovery:
            server = LocalConnectServer(discovery)
            if not server.is_reusable() or watched not in (None, int(server.pid)):  # the next one has a watch of its own
                return
            if time.time() - used.stat().st_mtime > patience_s:
                server.stop()
                return
            watched = int(server.pid)
        idle.end(watched)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
