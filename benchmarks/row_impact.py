"""What breaks if this column changes: asked of a generated workspace of 500 assets, through SQL, models and endpoints."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WHAT = "mlp impact TABLE.COLUMN on 500 assets, the slowest"
LIMIT, TARGET, LIMIT_S = None, None, 1.0


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """The slowest of the questions about the tables that everything comes from."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from asset_graph import generate  # type: ignore[import-not-found]  # tests are not type-checked

    import jupyter_mlp as mlp
    from jupyter_mlp.store.workspace import current

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = folder
        assets = generate(current(), 500, seed=1)

        def ask() -> float:
            slowest = 0.0
            for asset in assets[:12]:
                begun = time.perf_counter()
                repr(mlp.impact(f"{asset.ref}.{next(iter(asset.columns))}"))
                slowest = max(slowest, time.perf_counter() - begun)
            return slowest

        yield {"ours": ask}
