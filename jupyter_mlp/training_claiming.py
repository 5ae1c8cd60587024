"""One job for one question: whoever asks for the same training at the same moment gets the same run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_mlp.core.entities import FINISHED, RUNNING
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import jobs
from jupyter_mlp.store.attempts import SUPERVISOR
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace
from jupyter_mlp.training_run import Run


def versions() -> dict[str, str]:
    """The packages whose version can change what a training gives."""
    from importlib import metadata

    found = {}
    for name in ("torch", "lightning"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def known(workspace: Workspace, key: str) -> Run | None:
    """The run that answers this already, or is about to: the same submission twice is one job."""
    for state in (FINISHED, RUNNING):
        found = workspace.activities.find(key, state)
        if found is not None and jobs.fold(workspace, jobs.run_of(found)).state in (FINISHED, RUNNING):
            if state == FINISHED:
                workspace.activities.again(found)
            return Run(jobs.run_of(found), workspace, reused=True)
    return None


def begun(
    workspace: Workspace,
    folder: RunFolder,
    *,
    name: str,
    key: str,
    used: Sequence[Ref],
    told: Mapping[str, Any],
    reuse: bool,
    notes: Sequence[str] = (),
) -> Run:
    """Claim the record of a run whose folder is written, and start it. Whoever is killed on the way leaves nothing or a job that starts."""
    while True:
        activity, ours = workspace.activities.claim(
            "train", name=name, key=key, used=used, parameters=told, activity_id=folder.path.name, reuse=reuse
        )
        if ours:
            break
        found = jobs.fold(workspace, jobs.run_of(activity))
        if found.state == RUNNING or (reuse and found.state == FINISHED):
            shutil.rmtree(folder.path, ignore_errors=True)  # somebody else submitted the same a moment before
            if found.state == FINISHED:
                workspace.activities.again(found)
            return Run(found.id, workspace, reused=True)
    for note in notes:
        folder.say({SUPERVISOR: "note", "note": note})  # it stays said when the job is started again from its beginning
    try:
        jobs.start(folder)
    except BaseException as error:
        # The supervisor may be up already: it ends by this wish. Where even that cannot be written, the record stays as it
        # is, and whoever looks next starts the job or finds it running.
        folder.write(jobs.CANCEL, {"at": time.time()})
        workspace.activities.fail(activity, f"The job could not be started: {error}")
        raise
    return Run(folder.path.name, workspace)
