"""`make demo`: runs the quick start from top to bottom in fresh processes and says what it made and where it is."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "example_notebooks" / "00_quickstart.ipynb"
OUTPUT = ROOT / ".demo" / NOTEBOOK.name


def main() -> int:
    """Run the notebook; return the exit status."""
    os.environ.setdefault("MLP_WORKSPACE", str(ROOT / ".demo" / "workspace"))
    import jupyter_mlp as mlp

    begun = time.perf_counter()
    print(f"Running {NOTEBOOK.relative_to(ROOT)}: 336,776 real flights, from the table to a verified snapshot.", flush=True)
    try:
        with peak_memory() as peak, shown() as progress:
            done = mlp.run_notebook(NOTEBOOK, output=OUTPUT, progress=progress)
    except mlp.MLPError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(summary(done, time.perf_counter() - begun, peak[0])))
    return 0 if verified() else 1


@contextmanager
def shown() -> Iterator[Any]:
    """One line that is rewritten in a terminal; a line per cell elsewhere, such as in a log."""
    terminal = sys.stderr.isatty()

    def progress(report: dict[str, Any]) -> None:
        text = str(report["text"])
        sys.stderr.write(f"\r\x1b[K  {text}" if terminal else f"  {text}\n")
        sys.stderr.flush()

    yield progress
    if terminal:
        sys.stderr.write("\r\x1b[K")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure the largest sum of resident memory over all processes of this demo, in bytes; shared pages count each time."""
    peak, ended = [0.0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.5):
            peak[0] = max(peak[0], sum(map(_resident, _ours())))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _ours() -> list[psutil.Process]:
    """Processes that were started for our workspace, whoever is their parent by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MLP_WORKSPACE") == os.environ["MLP_WORKSPACE"] or process.pid == os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def summary(done: Any, seconds: float, peak: float) -> Iterator[str]:
    """Say what was made, and what can be done next."""
    from jupyter_mlp.store.workspace import current

    activities = current().activities
    yield f"\nDone in {seconds:.0f} s: {len(done.steps)} cells, at most {peak / 2**30:.1f} GB of memory. What it made:\n"
    for kind, what in (("table", "lake tables"), ("dataset", "datasets")):
        newest = [activities.newest(kind, name) for name in activities.names(kind)]
        yield f"  {what:<12}" + " ".join(ref.short for ref in newest if ref)
    for activity in reversed(activities.recent(["train"], limit=2, state="finished")):
        metrics = {name: value for name, value in activity.facts["metrics"].items() if name.startswith("val")}
        told = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        yield f"  {'model':<12}" + f"{activity.made[-1]}  ({activity.name} on {activity.used[0].short}: {told})"
    for kind, what in (("evaluate", "evaluation"), ("deploy", "endpoint"), ("snapshot", "snapshot"), ("verify", "verified")):
        for activity in activities.recent([kind], limit=1, state="finished"):
            yield f"  {what:<12}{activity.made[0]}" + _more(activity)
    endpoint = activities.names("endpoint")[0]
    bin_ = ".venv/bin/" if (ROOT / ".venv").exists() else ""
    workspace = os.environ["MLP_WORKSPACE"]
    yield f"\nThe executed notebook: {done.notebook}"
    yield f"The workspace:         {workspace}"
    yield f"\nOpen it in JupyterLab: make lab ARGS={os.path.relpath(done.notebook, ROOT)}"
    yield f"The endpoint still answers; it ends with: MLP_WORKSPACE={workspace} {bin_}mlp endpoint {endpoint} --stop"


def verified() -> bool:
    """Whether the last verification gave the same again; a demo that cannot repeat itself has failed."""
    from jupyter_mlp.store.workspace import current

    return all(activity.facts["ok"] for activity in current().activities.recent(["verify"], limit=1, state="finished"))


def _more(activity: Any) -> str:
    facts = activity.facts
    if activity.kind == "evaluate":
        return f"  (MAE {facts['metrics']['mae']:.2f} minutes, baseline {facts['baseline']['mae']:.2f})"
    if activity.kind == "deploy":
        return f"  ({facts['address']})"
    if activity.kind == "verify":
        verdicts = [cell["verdict"] for cell in facts["cells"]]
        return "  (" + ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts)) + ")"
    return ""


if __name__ == "__main__":
    sys.exit(main())
