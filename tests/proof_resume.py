"""A run of a notebook is killed at a random moment - who asked for it, who runs it, or its kernel - and resumed: the same final outputs.

python tests/proof_resume.py [--times 50] [--seed 1]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
import psutil

CELLS = [
    "import numpy as np, pandas as pd, random, time\nrandom.seed(k); rng = np.random.default_rng(k); np.random.seed(k)",
    "def step(values):\n    time.sleep(0.15)\n    return [value + random.random() for value in values]",
    "values = step([0.0] * 3)\nvalues",
    "values = step(values)\nseen = {'a': values[0]}\nprint(values)",
    "frame = pd.DataFrame({'x': rng.random(100), 'y': list('ab') * 50})\ntime.sleep(0.15)\nframe.groupby('y').x.sum()",
    "live = (value for value in values)\nfirst = next(live)\ntime.sleep(0.15)\nfirst",
    "second = next(live)\ntime.sleep(0.15)\nprint(second)\ndel live",
    "frame['z'] = frame.x * np.random.rand(100)\nvalues.append(rng.normal())\ntime.sleep(0.15)\nlen(values)",
    "total = frame.z.sum() + sum(values)\nseen['total'] = total\nprint(f'{total:.15f}')",
    "values = step(values)\nprint(seen, values, rng.integers(1000), np.random.rand())",
]
RUN = "import sys, jupyter_mlp as mlp\nprint(mlp.run_notebook(sys.argv[1], {'k': 7}, output=sys.argv[2], fresh=True).state)"


def prove(folder: Path, times: int, seed: int) -> int:
    """Kill and resume so many runs; return how many gave what an undisturbed one gives."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "long.ipynb"
    made = [nbformat.v4.new_code_cell("k = 1", metadata={"tags": ["parameters"]}), *map(nbformat.v4.new_code_cell, CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"MLP_WORKSPACE": str(folder / "workspace"), "PYTHONPATH": root}
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(folder / "whole.ipynb")], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    took = time.perf_counter() - begun
    wanted, good = _shown(folder / "whole.ipynb"), 0
    for number in range(times):
        output = folder / f"{number}.ipynb"
        done = _killed(path, output, environment, chance, took)
        shown = _shown(output)
        good += shown == wanted
        print(f"{number + 1:>3}: {done}: {'the same' if shown == wanted else 'DIFFERENT'}", flush=True)
        for one, other in zip(wanted, shown, strict=False):
            if one != other:
                print(f"     undisturbed {one}\n     resumed     {other}", flush=True)
    return good


def _killed(path: Path, output: Path, environment: dict[str, str], chance: random.Random, took: float) -> str:
    argv = [sys.executable, "-c", RUN, str(path), str(output)]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    who = chance.choice(["who asked", "who runs it", "its kernel", "all"])
    after = chance.uniform(0.3, 0.95) * took
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        asked = psutil.Process(process.pid)
        runs = [one for one in asked.children(recursive=True) if "jupyter_mlp.notebook.execute" in " ".join(one.cmdline())]
        kernels = [one for one in asked.children(recursive=True) if "ipykernel" in " ".join(one.cmdline())]
        for one in {"who asked": [asked], "who runs it": runs, "its kernel": kernels, "all": [asked, *runs, *kernels]}[who]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
    process.wait(120)
    code = "import sys, jupyter_mlp as mlp\nprint([step['state'] for step in mlp.run_notebook(resume=sys.argv[1]).steps].count('reused'))"
    if not _begun(output, environment):
        subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
        return f"{who} killed after {after:.2f} s, before anything had begun; run"
    resumed = subprocess.run([sys.executable, "-c", code, str(output)], env=environment, capture_output=True, text=True)
    if resumed.returncode:
        return f"{who} killed after {after:.2f} s; NOT RESUMED: {resumed.stderr.strip().splitlines()[-1]}"
    attempt = next(one for one in _runs(environment) if one["output"] == str(output))["attempt"]
    return f"{who} killed after {after:.2f} s, resumed (try {attempt})"


def _runs(environment: dict[str, str]) -> list[dict[str, object]]:
    return [json.loads(one.read_bytes()) for one in Path(environment["MLP_WORKSPACE"]).glob("pipelines/*/run.json")]


def _begun(output: Path, environment: dict[str, str]) -> bool:
    return any(one["output"] == str(output) for one in _runs(environment))


def _shown(path: Path) -> list[object]:
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"] if path.exists() else []
    return [[cell.source, cell.execution_count, [_plain(output) for output in cell.outputs]] for cell in cells]


def _plain(output: dict[str, object]) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", json.dumps(output, sort_keys=True))


def main() -> int:
    """Prove it; 1 when one run was different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = prove(Path(folder), given.times, given.seed)
    print(f"{good} of {given.times} resumed runs gave the same final outputs as an undisturbed one")
    return int(good < given.times)


if __name__ == "__main__":
    sys.exit(main())
