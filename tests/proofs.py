"""The long proofs, by name: what `make test` shows in short.

python tests/proofs.py                         all of them that need no option, one after the other
python tests/proofs.py writers [--commits 20]  one, with its own options
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROOFS = {
    "crashes": "crash_sweep.py",  # a publication is killed at every system call
    "pins": "pins_proof.py",  # random lives of a lake, killed between any two lines
    "writers": "proof_writers.py",  # 16 processes write one table and one dataset name, on SQLite and on Postgres
    "recipes": "proof_recipes.py",  # a recipe fitted on 10 million rows: what Spark reads, and what comes out
    "inputs": "proof_inputs.py",  # 10,000 texts and parameters: answered or refused
    "kills": "proof_kills.py",  # workers, supervisor and kernel of a training are killed at random
    "doors": "proof_doors.py",  # 10,000 generated requests to the server extension: none is a failure of the server
    "lab": "proof_lab.py",  # what the sidebar costs: JupyterLab's start, its opening, ten idle tabs
    "duplicates": "proof_duplicates.py",  # the same submission from two processes at the same moment
    "gang": "proof_gang.py",  # 32 real ranks at once on a real Slurm and on a real Ray, and a 33rd refused
    "memory": "proof_memory.py",  # one epoch of a set of 0.5 GB and of 5 GB: what each rank holds
    "verdicts": "proof_verdicts.py",  # simulated streams of two models, looked at after every batch
    "guards": "proof_guards.py",  # simulated models on a ramp, and endpoints that are monitored, at thousands of looks
    "explanations": "proof_explanations.py",  # sentences about models whose truth is known, and what the model says to each
    "requests": "proof_requests.py",  # 10,000 generated requests to an endpoint: none fails it, every refusal names the field
    "swaps": "proof_swaps.py",  # good and bad models are deployed under an open load; the serving process is killed
    "sticky": "proof_sticky.py",  # 10,000 keys are asked over HTTP again and again while the endpoint is restarted in every way
    "resume": "proof_resume.py",  # a run of a notebook is killed at a random moment and resumed: the same final outputs
    "xss": "proof_xss.py",  # 200 payloads in everything a notebook holds: none executes where we show it
    "faults": "proof_faults.py",  # notebooks with one planted fault each: its cause is named, and clean ones repeat
    "papermill": "proof_papermill.py",  # its public test notebooks, run by it and by us
    "repeats": "proof_repeats.py",  # varied notebooks and the example, verified here and in an environment made for them
    "spark_answers": "spark_answers.py",  # Spark's own SQL test files, of the folder that is named: plain Spark and we say the same
    "ticks": "proof_ticks.py",  # schedulers are killed at random; clocks jump, summer time begins
}
# These need something of the reader's: python tests/proofs.py spark_answers FOLDER
ALONE = ("spark_answers",)


def main(name: str = "", *options: str) -> int:
    """Run one proof or all; return 1 when one fails."""
    if name and name not in PROOFS:
        print(f"There is no proof {name}. Known: {', '.join(PROOFS)}.", file=sys.stderr)
        return 2
    failed = 0
    for one in [name] if name else [one for one in PROOFS if one not in ALONE]:
        print(f"== {one}", flush=True)
        failed |= subprocess.run([sys.executable, str(Path(__file__).parent / PROOFS[one]), *options]).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
