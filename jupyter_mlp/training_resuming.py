"""Going on with a run that has ended, as a new run: the same code, data, recipe, seed and settings, from its last checkpoint.

    run:A  epochs 1 .. 3, killed in the fourth      code, spec, recipe and plan of rows, checkpoint
    run:B  used run:A                               copies of them; other GPUs, more epochs, another cluster where asked for

Nothing of the notebook is looked at, and the old run's folder may go afterwards.
"""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from jupyter_mlp import training_claiming as claiming
from jupyter_mlp import training_inputs as inputs
from jupyter_mlp import training_notes
from jupyter_mlp.core import parallelism, trainer_arguments
from jupyter_mlp.core.entities import FINISHED, RUNNING, Activity
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, NotFoundError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import checkpoints, clusters, elsewhere, jobs, modes, shares
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.batches import TRAIN, Plan
from jupyter_mlp.store.checkpoints import Checkpoint
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace
from jupyter_mlp.training_run import Run

ENDS = ("max_time", "max_steps", "min_epochs", "min_steps")  # arguments of the Trainer that say how long, and not how
_CHANGES = "--gpus, --max-epochs, --cluster, --retries, --checkpoint-every, --max-stall, --priority and --trainer max_time=... or max_steps"


def resumed(workspace: Workspace, of: Any, fixed: Mapping[str, Any], asked: Mapping[str, Any], fresh: bool) -> Run:
    """Start a run that goes on where another one ended, and return it.

    Args:
        of: the run. `fixed`: what was given beside it and cannot be changed, by name; None where nothing was.
        asked: what may be changed: gpus, max_epochs, cluster, retries, checkpoint_every, max_stall, priority, trainer.
    """
    before = Run(workspace.activities.complete("train", Ref.parse(named(of), kind="run").name), workspace)
    folder = jobs.folder_of(workspace, before.id)
    activity, spec = jobs.fold(workspace, before.id), folder.read("spec.json") or {}
    _check_fixed(before, fixed, spec)
    if activity.state == RUNNING:
        raise ConflictError(f"{before.ref} has not ended.", f"%mlp_attach {before.ref} --wait waits for it; --cancel stops it.")
    for ref in activity.used:
        if ref.kind in ("dataset", "table", "file"):
            elsewhere.load(workspace, ref)  # refused here and now where it was forgotten
    found, notes = _checkpoint(before, folder, activity)
    told = _changed(before, spec, activity, found, asked)
    where = clusters.named(workspace, asked["cluster"] or spec["cluster"])
    shape = clusters.launcher(where).shape(told["gpus"])
    _check_place(folder, found, spec, told["gpus"])
    how: dict[str, Any] = {"cluster": where.name, "where": where.to_dict(), "on": shape.on, "nodes": shape.nodes, "device": shape.device}
    how |= {name: spec[name] if asked[name] is None else asked[name] for name in ("priority", "retries")}
    how["checkpoint_every"] = spec["checkpoint_every"] if asked["checkpoint_every"] is None else inputs.pace(asked["checkpoint_every"])
    how["max_stall_s"] = spec.get("max_stall_s", 0.0) if asked["max_stall"] is None else inputs.stall(asked["max_stall"])
    key = digest("train", 1, told, claiming.versions())
    reuse = not fresh and (modes.replays() or (modes.reuses() and spec.get("own") is None))
    if reuse and (known := claiming.known(workspace, key)):
        return known
    notes += _notes(before, found, spec, told, where.name)
    notes += [note for note in (training_notes.other_environment(where), training_notes.unused_priority(where, how["priority"])) if note]
    made = _written(workspace, folder, spec, {**told, **how}, found)
    used = [*(ref for ref in activity.used if ref.kind != "run"), Ref("run", before.id)]
    return claiming.begun(workspace, made, name=str(activity.name), key=key, used=used, told=told, reuse=reuse, notes=notes)


def _check_fixed(before: Run, fixed: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    for name, value in fixed.items():
        if value is not None and value != {}:
            flag = "The model" if name == "model" else f"--{'set' if name == 'settings' else name.replace('_', '-')}"
            raise InvalidInputError(
                f"{flag} cannot be given where a run goes on: {before.ref} goes on with its own code, data and settings.",
                f"%mlp_train --resume {before.ref}, with {_CHANGES}; or train anew without --resume.",
            )


def _checkpoint(before: Run, folder: RunFolder, activity: Activity) -> tuple[Checkpoint, list[str]]:
    """Return the newest checkpoint whose bytes are what was written, and what is to be said of newer ones."""
    found, said = (checkpoints.of_finished if activity.state == FINISHED else checkpoints.last)(folder.path)
    if found is None:
        why = " ".join(said) or "it ended before the first was due, took none (--checkpoint-every 0), or they were removed."
        raise NotFoundError(f"{before.ref} left no checkpoint to go on from: {why}", "Train anew, with --checkpoint-every 10s or so.")
    return found, [f"{sentence} Of {before.ref} the one before is used." for sentence in said]


def _changed(before: Run, spec: Mapping[str, Any], activity: Activity, found: Checkpoint, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the new run: those of the old one, and what was asked for."""
    given = trainer_arguments.checked(asked["trainer"] or {})
    for name in given:
        if name not in ENDS:
            raise InvalidInputError(
                f"--trainer {name} cannot be changed where a run goes on: {before.ref} goes on as it was.",
                f"Of the Trainer's arguments {', '.join(ENDS)} can be; train anew without --resume for another {name}.",
            )
    epochs = spec["max_epochs"] if asked["max_epochs"] is None else asked["max_epochs"]
    ended = activity.state == FINISHED and found.batch == 0 and epochs <= found.epoch
    if ended or epochs < found.epoch:
        done = f"all its {found.epoch}" if ended else str(found.epoch)
        raise InvalidInputError(
            f"{before.ref} has done {done} epochs, so that --max-epochs {epochs} leaves nothing to do.",
            f"Train on: %mlp_train --resume {before.ref} --max-epochs {found.epoch + max(1, found.epoch)}",
        )
    return {
        **activity.parameters,
        "gpus": spec["gpus"] if asked["gpus"] is None else asked["gpus"],
        "max_epochs": epochs,
        "trainer": {**spec.get("trainer", {}), **given},
        "resume": {"run": before.ref, "step": found.step, "epoch": found.epoch, "batch": found.batch, "sha256": found.sha256},
    }


def _check_place(folder: RunFolder, found: Checkpoint, spec: Mapping[str, Any], gpus: int) -> None:
    """Refuse processes that cannot share what is left, or a model that is split among them."""
    parallelism.check_size(spec.get("strategy", parallelism.AUTO), spec.get("tensor_parallel_size"), gpus)
    prepared = folder.read("recipe.json")
    if prepared is None:
        return
    total = Plan.from_dict(prepared["plan"]).rows(TRAIN)
    if total < gpus:
        raise InvalidInputError(f"{total} rows are too few for {gpus} processes.", "Give fewer --gpus.")
    if found.share is not None and found.batch > 0 and gpus != spec["gpus"]:
        shares.Share.from_dict(found.share).continued(total, found.batch, shares.regular(spec["batch_size"], gpus))


def _notes(before: Run, found: Checkpoint, spec: Mapping[str, Any], told: Mapping[str, Any], cluster: str) -> list[str]:
    said = f"Goes on from {before.ref} at step {found.step:,}"
    said += f", in the middle of epoch {found.epoch + 1}." if found.batch else f", after epoch {found.epoch}."
    if told["gpus"] == spec["gpus"]:
        return [said]
    more = f"{told['gpus']} {'process' if told['gpus'] == 1 else 'processes'} instead of {spec['gpus']}"
    if found.batch:
        return [said, f"{more} share the rows of that epoch that were not seen yet."]
    return [said, f"{more} share the rows from that epoch on."]


def _written(workspace: Workspace, before: RunFolder, spec: Mapping[str, Any], told: Mapping[str, Any], found: Checkpoint) -> RunFolder:
    """Write the new run's folder, with copies of all that it needs of the old one."""
    folder = RunFolder(workspace.runs / new_id())
    shutil.copytree(before.path / "code", folder.path / "code", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("fitted.json", "recipe.json"):
        if (value := before.read(name)) is not None:
            folder.write(name, value)
    checkpoints.adopt(found, folder.path)
    more = {"run": folder.path.name, "model": str(uuid.uuid4()), "python": sys.executable, "submitted_at": time.time()}
    kept = {name: spec[name] for name in ("data", "validation")}  # with the paths of their files, which the record has not
    folder.write("spec.json", {**spec, **told, **kept, **more, "tracker": workspace.settings.tracker})
    return folder
