"""Starts the warm local Spark server in a session of its own: `python -m ... MASTER`, options as JSON on standard input.

Spark starts it as a child of whoever asks first. That may be a kernel that is killed with all its children when its
notebook ends, and the server belongs to every kernel of this environment.
"""

from __future__ import annotations

import json
import sys


def main(master: str) -> int:
    """Start the server, or find one that somebody else started meanwhile; the last line of standard error says what went wrong."""
    from pyspark.errors import PySparkException
    from pyspark.sql.connect import local_server

    from jupyter_mlp.backends.spark_errors import first_line

    try:
        local_server.reuse_or_start_local_connect_server(master, json.load(sys.stdin))
    except PySparkException as error:
        sys.stderr.write(f"{first_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
