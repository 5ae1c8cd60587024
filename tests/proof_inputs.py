"""`make proof ARGS=inputs`: 10,000 generated texts and parameters; each is answered or refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNT = sys.argv[1] if len(sys.argv) > 1 else "10000"

if __name__ == "__main__":
    test = Path(__file__).parent / "integration" / "test_inputs.py"
    command = [sys.executable, "-m", "pytest", "-q", str(test)]
    sys.exit(subprocess.run(command, env=os.environ | {"MLP_PROOF_INPUTS": COUNT}, cwd=test.parents[2]).returncode)
