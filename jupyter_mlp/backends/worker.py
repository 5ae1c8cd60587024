"""One rank of a training job: the same entry point under every launcher, told everything by its run folder.

    python -m jupyter_mlp.backends.worker RUN_FOLDER      RANK and WORLD_SIZE from the launcher; alone without them

    rank 0   plans the rows (which are held out, which have a target) in a thread, while torch is imported
    all      wait for recipe.json, fit, say what happens in events.jsonl
    rank 0   publishes result/: weights, exported graph, card
    each     says in rank.<n>.json which process it is, and at the end how it ended: who says nothing was killed

It never opens the records database: whoever attaches, or the supervisor, brings the folder's truth into it.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jupyter_mlp.backends.joining import CLUSTER
from jupyter_mlp.backends.ranks import HELD
from jupyter_mlp.core.errors import Again, JobError, MLPError, storage_error
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches, jobs
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.processes import this_process

_LOOK_S = 0.02
_MIND_S = 0.5
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")  # what a rank says when another is gone


def main(folder: Path) -> int:
    """Train; return the exit status. How it ended, and why, stands in rank.<n>.json."""
    run = RunFolder(folder)
    if held := os.environ.pop(HELD, ""):
        os.set_inheritable(int(held), False)  # no program that the user's code starts may hold it longer than we live
    rank = int(os.environ.get("RANK", "0"))
    me = {**this_process().to_dict(), "attempt": int(os.environ.get("MLP_ATTEMPT", "1"))}
    word = f"rank.{rank}.json"
    run.write(word, me)
    if rank == 0 and "MLP_ATTEMPT" in os.environ and CLUSTER not in os.environ:  # started by a supervisor of this machine
        threading.Thread(target=_mind_supervisor, args=(folder,), daemon=True).start()
    try:
        _train(run, rank, int(os.environ.get("WORLD_SIZE", "1")))
    except BaseException as error:  # noqa: BLE001 - whatever ends a rank is told to whoever attaches
        traceback.print_exc()
        run.write(word, {**me, "ended": "error", "at": time.time(), "again": _may_go_well(error), **_said(error, folder / "code")})
        return 1
    run.write(word, {**me, "ended": "well", "at": time.time()})
    return 0


def _mind_supervisor(folder: Path) -> None:
    """Start another supervisor whenever there is none: nobody needs to look for the job to go on."""
    run = RunFolder(folder)
    while run.read("exit.json") is None:
        time.sleep(_MIND_S)
        jobs.revive(run)


def _may_go_well(error: BaseException) -> bool:
    """Whether another attempt can end otherwise: another rank or a file was lost; a mistake in the code stays one."""
    if _is_told_to_end(error):
        return True
    if isinstance(error, MLPError):
        return isinstance(error, Again)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)


def _is_told_to_end(error: BaseException | None) -> bool:
    """Whether a signal ended it, or began to: Lightning's exception of SIGTERM, or the exit that Ray's processes make of it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if type(error).__name__ == "SIGTERMException" or hasattr(error, "ray_terminate_msg"):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _train(run: RunFolder, rank: int, world: int) -> None:
    spec = run.read("spec.json")
    assert spec is not None, "the launcher starts workers in a complete run folder"
    sys.path.insert(0, str(run.path / "code"))
    _enter(run, spec, rank)
    with ThreadPoolExecutor(1) as beside:
        own = spec.get("own") is not None
        preparing = beside.submit(_prepare, run, spec, world) if rank == 0 and not own and run.read("recipe.json") is None else None
        from jupyter_mlp.backends import lightning, lightning_names  # 3 s, in which the data is looked at

        lightning_names.unify()
        prepared = None if own else _prepared(run, preparing)
    lightning.train(run, spec, prepared, rank, world)


def _enter(run: RunFolder, spec: dict[str, Any], rank: int) -> None:
    """Work where the notebook works, so that relative paths of its code mean the same; where that is not, in the run's folder."""
    folder = spec.get("folder", run.path)
    try:
        os.chdir(folder)
    except OSError as error:
        os.chdir(run.path)
        if rank == 0:
            run.say({"note": f"Relative paths of the code mean the run's folder: {folder} cannot be entered ({error.strerror})."})


def _prepare(run: RunFolder, spec: dict[str, Any], world: int) -> None:
    data, validation = spec["data"], spec["validation"]
    share = 0.0 if validation else spec["held_out"]
    fitted = run.read("fitted.json")
    assert fitted is not None, "the recipe is fitted before the job is submitted"
    recipe = Recipe.from_dict(fitted)
    plan = batches.split(data["files"], recipe, share, spec["seed"], data.get("pins"), data.get("folders"))
    if plan.rows(batches.TRAIN) < world:
        raise JobError(f"{plan.rows(batches.TRAIN)} rows are too few for {world} processes.", "Give fewer --gpus, or more rows.")
    held = None
    if validation:
        held = batches.whole(validation["files"], recipe, spec["seed"], validation.get("pins"), validation.get("folders")).to_dict()
    run.write("recipe.json", {"recipe": fitted, "plan": plan.to_dict(), "validation": held})


def _prepared(run: RunFolder, preparing: Future[None] | None) -> dict[str, Any]:
    """Return recipe.json, made here or by rank 0, or raise why it cannot be."""
    if preparing is not None:
        preparing.result()
    while True:
        found = run.read("recipe.json")
        if found is not None:
            return found
        first = run.read("rank.0.json") or {}
        if "ended" in first and first["attempt"] == int(os.environ.get("MLP_ATTEMPT", "1")):
            raise Again("Rank 0 ended before the data was ready.")
        time.sleep(_LOOK_S)


def _said(error: BaseException, code: Path) -> dict[str, str]:
    """What went wrong, and the line of the user's own code where it did."""
    if _is_told_to_end(error):
        return {"error": "The training process was told to end (SIGTERM).", "hint": ""}
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not isinstance(error, MLPError):
        error = storage_error(error, "writing")
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
