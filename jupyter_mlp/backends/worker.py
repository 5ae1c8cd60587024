"""One rank of a training job: the same entry point under every launcher, told everything by its run folder.

    python -m jupyter_mlp.backends.worker RUN_FOLDER      RANK and WORLD_SIZE from the launcher; alone without them

    rank 0   plans the rows (which are held out, which have a target) in a thread, while torch is imported
    all      wait for recipe.json, fit, say what happens in events.jsonl
    rank 0   publishes result/: weights, exported graph, card

It never opens the records database: whoever attaches, or the supervisor, brings the folder's truth into it.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import JobError, MLPError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.processes import identify

_LOOK_S = 0.02


def main(folder: Path) -> int:
    """Train; return the exit status. Why it failed stands in failure.json."""
    run = RunFolder(folder)
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        run.write("worker.json", identify(os.getpid()).to_dict())
    try:
        _train(run, rank, int(os.environ.get("WORLD_SIZE", "1")))
    except BaseException as error:  # noqa: BLE001 - whatever ends a rank is told to whoever attaches
        traceback.print_exc()
        if not isinstance(error, SystemExit | KeyboardInterrupt) and run.read("failure.json") is None:
            run.write("failure.json", _said(error, folder / "code"))
        return 1
    return 0


def _train(run: RunFolder, rank: int, world: int) -> None:
    spec = run.read("spec.json")
    assert spec is not None, "the launcher starts workers in a complete run folder"
    sys.path.insert(0, str(run.path / "code"))
    with ThreadPoolExecutor(1) as beside:
        preparing = beside.submit(_prepare, run, spec, world) if rank == 0 else None
        from jupyter_mlp.backends import lightning  # 3 s, in which the data is looked at

        prepared = _prepared(run, preparing)
    lightning.train(run, spec, prepared, rank, world)


def _prepare(run: RunFolder, spec: dict[str, Any], world: int) -> None:
    data, validation = spec["data"], spec["validation"]
    share = 0.0 if validation else spec["held_out"]
    fitted = run.read("fitted.json")
    assert fitted is not None, "the recipe is fitted before the job is submitted"
    recipe = Recipe.from_dict(fitted)
    plan = batches.split(data["files"], recipe, share, spec["seed"])
    if plan.rows(batches.TRAIN) < world:
        raise JobError(f"{plan.rows(batches.TRAIN)} rows are too few for {world} processes.", "Give fewer --gpus, or more rows.")
    held = batches.whole(validation["files"], recipe, spec["seed"]).to_dict() if validation else None
    run.write("recipe.json", {"recipe": fitted, "plan": plan.to_dict(), "validation": held})


def _prepared(run: RunFolder, preparing: Future[None] | None) -> dict[str, Any]:
    """Return recipe.json, made here or by rank 0, or raise why it cannot be."""
    if preparing is not None:
        preparing.result()
    while True:
        found = run.read("recipe.json")
        if found is not None:
            return found
        if run.read("failure.json") is not None:
            raise SystemExit("rank 0 said why")
        time.sleep(_LOOK_S)


def _said(error: BaseException, code: Path) -> dict[str, str]:
    """What went wrong, and the line of the user's own code where it did."""
    if isinstance(error, MLPError):
        return {"error": error.message, "hint": error.hint}
    text = str(error).strip().splitlines()
    first = f"{type(error).__name__}: {text[0][:400]}" if text else type(error).__name__
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(code))]
    if not own:
        return {"error": first, "hint": ""}
    return {"error": first, "hint": f"In {own[-1].name}: {own[-1].line}"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
