"""How long the first query of a second notebook takes from %load_ext on, the Spark server being warm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fresh

WHAT = "second notebook: %load_ext to SELECT 1, warm"
LIMIT, TARGET, LIMIT_S = None, None, 2.0


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Ours by the magic, with a query that was never asked before; nothing is reused but the server."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        asked = iter(range(1, 1_000))

        def ours() -> float:
            query = f"SELECT {next(asked)} AS one"
            return fresh.kernel(
                f"shell.run_line_magic('load_ext', 'jupyter_mlp')\n"
                f"assert shell.run_cell_magic('mlp_data', 'one', {query!r}).rows == 1, 'no answer'",
                workspace,
            )

        ours()  # starts the server where it does not run
        yield {"ours": ours}
