"""The launchers' suite (tests/integration/test_launchers.py) on a real Ray cluster of four nodes.

python tests/proof_ray.py [-k killed]     further options are pytest's
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).parent / "integration" / "test_launchers.py"


def main(*options: str) -> int:
    """Run it; return pytest's exit status."""
    environment = os.environ | {"MLP_TEST_LAUNCHERS": "ray"}
    return subprocess.run([sys.executable, "-m", "pytest", "-v", "--timeout=900", str(SUITE), *options], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
