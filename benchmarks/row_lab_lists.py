"""What the sidebar's lists and searches cost when there is a lot: over HTTP at 100,000 records, beside the same at 100."""

from __future__ import annotations

import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import many

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the server that the tests use, too

WHAT = "sidebar: p95 of lists and searches, 100,000 records | 100"
LIMIT, TARGET, LIMIT_S = 1.5, 1.2, 0.2
_TIMES = 40
_ASKED = ("list/dataset", "list/run", "list/model", "list/run?cursor=90.z", "search?text=net", "search?text=old_7", "search?text=zzz")


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Two servers whose workspaces differ in how much happened in them; each side is the p95 of many requests."""
    import jupyter_servers as jupyter  # type: ignore[import-not-found]

    from jupyter_mlp.store.workspace import current

    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:

        def asking(count: int) -> Callable[[], float]:
            place = Path(folder, str(count))
            os.environ["MLP_WORKSPACE"] = str(place / "workspace")
            many.fill(current(), count)
            server = servers.enter_context(jupyter.running(place, app="server"))

            def ask() -> float:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                took = []
                for number in range(_TIMES * len(_ASKED)):
                    begun = time.perf_counter()
                    path = f"/jupyter-mlp/{_ASKED[number % len(_ASKED)]}"
                    connection.request("GET", path, headers={"Authorization": f"token {server.token}"})
                    answer = connection.getresponse()
                    data = answer.read()
                    assert answer.status == 200, data[:300]
                    took.append(time.perf_counter() - begun)
                connection.close()
                return sorted(took[len(_ASKED) :])[int((len(took) - len(_ASKED)) * 0.95)]

            return ask

        yield {"ours": asking(100_000), "peer": asking(100)}
