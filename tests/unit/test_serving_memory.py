"""What a process that serves does not load: pandas would keep all requests waiting for half a second, and stay."""

from __future__ import annotations

import subprocess
import sys

_SERVES = """
import sys
import jupyter_mlp.serving.child as child
child._import_the_rest()
assert "pyarrow" not in sys.modules and "pandas" not in sys.modules and "torch" not in sys.modules
from jupyter_mlp.core import values
from jupyter_mlp.serving import arrow
arrow.keep_from_pandas()
import pyarrow as pa
assert values.gathered("key", ["a", None]).to_pylist() == ["a", None]
assert "pandas" not in sys.modules
assert len(pa.table({"a": [1, 2]}).to_pandas()) == 2
print("well")
"""


def test_arrow_brings_no_pandas_and_gives_a_frame_where_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", _SERVES], capture_output=True, text=True)
    assert done.stdout == "well\n", done.stderr
