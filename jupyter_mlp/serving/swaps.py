"""What every change of an endpoint has in common: recorded, one at a time, brought about, and put back where it cannot be."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core import sizes
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import keeper, lookups, names, places, routing, warmth
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store import datasets, deployments, registry
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace


@dataclass(frozen=True)
class Asked:
    """Where a deploy wants the endpoint; None for where it is."""

    port: int | None = None
    cluster: str | None = None
    replicas: int | None = None
    listen: str | None = None


@dataclass(frozen=True)
class Swap:
    """What a change has brought about: what answers now, and where."""

    reference: Ref
    variants: tuple[Variant, ...]
    address: str
    seconds: float
    proof: Mapping[str, Any] | None = None


def bring(
    workspace: Workspace,
    folder: EndpointFolder,
    draft: Draft,
    variants: tuple[Variant, ...],
    asked: Asked,
    before: Activity | None,
    ramp: Mapping[str, Any] | None = None,
    store: Mapping[str, Any] | None = None,
) -> Swap:
    """Make the endpoint serve `variants`, put everything back if it cannot, and complete the record."""
    begun = time.perf_counter()
    old = folder.wanted()
    place = places.asked(workspace, folder, asked.cluster)
    settled = place.settle(folder.path, asked.port, asked.replicas, asked.listen)
    fresh = bool(old.get("stopped")) or not place.runs(folder.path)
    generation = int(old.get("generation", 0)) + 1
    state: dict[str, Any] = {
        "endpoint": folder.name,
        "generation": generation,
        "variants": [variant.to_dict() for variant in variants],
        **settled,
        "models": [str(path) for path in deployments.model_roots(workspace)],
        "workspace": str(workspace.root),
        "user": getpass.getuser(),
        "ramp": ramp,
        "open_pages": _open_pages(workspace),
        "store": store,
    }
    warmth.allow(workspace.endpoints, _budget(workspace))
    folder.token()
    folder.want(state)
    try:
        error = place.bring(folder.path, fresh)
    except BaseException:
        places.undo(place, folder, old, state, fresh)
        raise
    if error:
        places.undo(place, folder, old, state, fresh)
        kept = "Nothing is served." if fresh else "What was served before still is."
        raise JobError(f"The endpoint {folder.name} refuses this deploy: {error}", f"{kept} {place.log(folder.path)}")
    keeper.ensure(folder)
    lookups.forget(workspace.root, old.get("store"), store)
    ref = Ref("endpoint", folder.name, draft.activity.id)
    draft.made.append(ref)
    address = folder.address
    assert address is not None, "what was brought up has one"
    facts = {"variants": state["variants"], "address": address, "generation": generation}
    draft.facts.update(facts, before=before.id if before else None, **({"store": store} if store else {}))
    return Swap(ref, variants, address, time.perf_counter() - begun, draft.facts.get("proof"))


def _budget(workspace: Workspace) -> warmth.Budget:
    """What the settings let all endpoints of this machine take."""
    import psutil

    said = workspace.settings.serving_memory
    memory = sizes.read(said, "serving_memory") if said else psutil.virtual_memory().total / 2
    return warmth.Budget(memory, workspace.settings.serving_idle_s)


def _open_pages(workspace: Workspace) -> list[str]:
    """What the settings open to those without a token."""
    names = [name.strip() for name in workspace.settings.open_pages.split(",") if name.strip()]
    for name in names:
        if name not in ("metrics", "openapi"):
            raise InvalidInputError(f"The setting open_pages names {name!r}, which is no page.", 'Write open_pages = "metrics,openapi".')
    return names


def ramp_to(
    model: str, before: Sequence[Variant], steps: Sequence[int], every_s: float, guarded: Sequence[str] = ()
) -> dict[str, Any] | None:
    """What the endpoint's host needs to move on by itself."""
    best = routing.champion([variant for variant in before if variant.model != model])
    if best is None or not steps or steps == (100,):
        return None
    found = {"model": model, "champion": best.model, "steps": list(steps), "every_s": every_s, "at": time.time() + every_s}
    return {**found, "guards": list(guarded)} if guarded else found


def ramp_of_others(folder: EndpointFolder, model: str) -> dict[str, Any] | None:
    """The ramp that is under way, where a model that comes or goes beside it has no part in it."""
    ramp: dict[str, Any] | None = folder.wanted().get("ramp")
    return ramp if ramp and model not in (ramp["model"], ramp["champion"]) else None


def rollback(workspace: Workspace, name: str) -> Swap:
    """Serve again what the deploy before the newest one served.

    Raises:
        NotFoundError: there was none.
    """
    folder = deployments.folder(workspace, name)
    made = newest_deploy(workspace, name)
    before = workspace.activities.get(made.facts["before"]) if made and made.facts.get("before") else None
    if made is None or before is None:
        raise NotFoundError(f"The endpoint {name} has served nothing before this.", "mlp.deploy(MODEL, to=...) serves another model.")
    variants = routing.read(before.facts["variants"])
    with recording(workspace, folder, [variant.model for variant in variants], {"to": name, "rollback": made.id}) as draft:
        earlier = workspace.activities.get(before.facts["before"]) if before.facts.get("before") else None
        store = _published_again(workspace, name, before.facts.get("store"), variants)
        return bring(workspace, folder, draft, variants, Asked(), earlier, store=store)


def _published_again(workspace: Workspace, name: str, store: Mapping[str, Any] | None, variants: Sequence[Variant]) -> Any:
    """What was published by key, in the store again: it may be gone since."""
    kept = lookups.kept(store, variants)
    if not kept:
        return None
    return lookups.publish(workspace.root, name, datasets.load(workspace, kept["data"]), kept["key"], kept["model"])


def start(workspace: Workspace, name: str) -> Swap:
    """Serve again what was served before the endpoint was stopped, or before its machine was.

    Raises:
        NotFoundError: nothing was ever deployed to it.
    """
    folder = deployments.folder(workspace, name)
    wanted, made = folder.wanted(), newest_deploy(workspace, name)
    if made is None or not wanted:
        raise NotFoundError(f"The endpoint {name} has never served.", "mlp.deploy(MODEL, to=...) makes it.")
    variants = routing.read(wanted["variants"])
    with recording(workspace, folder, [variant.model for variant in variants], {"to": name, "start": made.id}) as draft:
        before = workspace.activities.get(made.facts["before"]) if made.facts.get("before") else None  # what a rollback goes back to
        store = _published_again(workspace, name, wanted.get("store"), variants)
        ramp = wanted.get("ramp")
        if ramp:  # nobody saw the newcomer while nothing ran: the step that was under way takes its whole time again
            ramp = {**ramp, "at": time.time() + ramp["every_s"]}
        return bring(workspace, folder, draft, variants, Asked(), before, ramp, store)


def remove(workspace: Workspace, name: str, model: str) -> Swap:
    """Take a model out that is tried beside others.

    Raises:
        NotFoundError: it is not behind this endpoint. InvalidInputError: no other model answers.
    """
    folder = deployments.folder(workspace, name)
    found = registry.load(workspace, model)
    with recording(workspace, folder, [found.uuid], {"to": name, "remove": found.uuid}) as draft:
        variants = routing.without_model(names.served(folder), found.uuid)
        store = lookups.kept(folder.wanted().get("store"), variants)
        ramp = ramp_of_others(folder, found.uuid)
        return bring(workspace, folder, draft, variants, Asked(), newest_deploy(workspace, name), ramp, store)


@contextmanager
def recording(workspace: Workspace, folder: EndpointFolder, models: list[str], parameters: dict[str, Any]) -> Iterator[Draft]:
    """Record one deploy, and keep others away from the endpoint while it lasts."""
    used = [Ref("model", model) for model in models]
    with (
        workspace.activities.recording("deploy", name=folder.name, used=used, parameters=parameters) as draft,
        folder.locked("deploy") as mine,
    ):
        if not mine:
            raise ConflictError(f"Another deploy to {folder.name} is under way.", "Run it again when that one is done.")
        yield draft


def newest_deploy(workspace: Workspace, name: str) -> Activity | None:
    """Return the record of the newest change; None before the first."""
    try:
        return workspace.activities.maker(deployments.newest(workspace, name))
    except NotFoundError:
        return None
