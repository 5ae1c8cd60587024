"""An endpoint where no workspace is written to, as in a container: models from folders, everything else on the command line.

    MLP_ENDPOINT_TOKEN=... python -m jupyter_mlp.serving.standalone NAME --variants JSON --port 8080 MODELS_ROOT...

Whatever restarts it gives it the same arguments again; swaps, ramps and records belong to endpoints that were deployed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from jupyter_mlp.core.errors import InvalidInputError, MLPError
from jupyter_mlp.serving import control, host, routing
from jupyter_mlp.store.deployments import EndpointFolder

_TOKEN = "MLP_ENDPOINT_TOKEN"


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; return the exit status."""
    parser = argparse.ArgumentParser(prog="jupyter_mlp.serving.standalone")
    parser.add_argument("name")
    parser.add_argument("models", type=Path, nargs="+", help="folders of models, each below its UUID")
    parser.add_argument("--variants", required=True, help='[{"model": UUID, "weight": 100, "shadow": false}]')
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--listen", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--replicas", type=int, default=1, help="processes that share the requests")
    given = parser.parse_args(arguments)
    try:
        folder = _prepared(given, os.environ.pop(_TOKEN, ""))
    except MLPError as error:
        parser.exit(2, f"{error}\n")
    return host.main([str(folder.path), *map(str, given.models)])


def _prepared(given: argparse.Namespace, token: str) -> EndpointFolder:
    if len(token) < 8:
        raise InvalidInputError(f"{_TOKEN} is {'too short' if token else 'not set'}.", "Set it to what callers send, 8 characters or more.")
    variants, replicas = routing.read(json.loads(given.variants)), control.possible(given.replicas)
    folder = EndpointFolder(Path(tempfile.mkdtemp(prefix="mlp-endpoint-")) / given.name)
    folder.keep_token(token)
    state = {"endpoint": given.name, "generation": 1, "port": given.port, "listen": given.listen, "replicas": replicas}
    folder.want({**state, "variants": [variant.to_dict() for variant in variants]})
    return folder


if __name__ == "__main__":
    sys.exit(main())
