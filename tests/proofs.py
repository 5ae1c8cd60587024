"""The long proofs, by name: `make proof` runs all of them, `make proof ARGS="pins --sequences 50"` one, with its own options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROOFS = {
    "crash": "crash_sweep.py",  # every publication killed at every system call
    "pins": "pins_proof.py",  # random lives of a lake, killed between any two lines
}


def main(words: list[str]) -> int:
    """Run the proof that is named, else all; 1 where one found something."""
    if words and words[0] not in PROOFS:
        print(f"There is no proof {words[0]!r}.\nKnown: {', '.join(PROOFS)}.", file=sys.stderr)
        return 2
    chosen, options = (words[:1], words[1:]) if words else (list(PROOFS), [])
    codes = [subprocess.run([sys.executable, HERE / PROOFS[name], *options]).returncode for name in chosen]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
