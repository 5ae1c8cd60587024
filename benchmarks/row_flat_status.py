"""What a look costs when there is a lot: `%mlp_status` at 100,000 records, beside the same at 100."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import many

WHAT = "%mlp_status at 100,000 records | at 100"
LIMIT, TARGET, LIMIT_S = 2.0, 1.2, None
_TIMES = 20


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Two workspaces that differ in how much happened in them; each side is the mean of some looks."""
    import os
    import time

    import jupyter_mlp as mlp
    from jupyter_mlp.store.workspace import current

    with tempfile.TemporaryDirectory() as folder:

        def looking(count: int) -> Callable[[], float]:
            root = str(Path(folder, str(count)))
            os.environ["MLP_WORKSPACE"] = root
            many.fill(current(), count)

            def look() -> float:
                os.environ["MLP_WORKSPACE"] = root
                repr(mlp.status())
                begun = time.perf_counter()
                for _ in range(_TIMES):
                    repr(mlp.status())
                return (time.perf_counter() - begun) / _TIMES

            return look

        yield {"ours": looking(100_000), "peer": looking(100)}
