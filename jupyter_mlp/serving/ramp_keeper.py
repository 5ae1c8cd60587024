"""Moves a ramp from step to step, and traffic back from a challenger that fails: in a process that lives without kernel.

On this machine that is the host's parent, for a cluster a keeper (keeper.py).

wanted.json holds {"ramp": {"model", "champion", "steps", "every_s", "at", "guards"}} beside the variants; `at` is when the next
step is due. Every move is a deploy of its own in the records, so that a rollback and a question "since when" work alike.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.core import guards, ramps
from jupyter_mlp.core.ramps import Health
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import requests_log, routing
from jupyter_mlp.serving.requests_log import Entry
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.deployments import EndpointFolder

_log = logging.getLogger(__name__)


def is_needed(folder: EndpointFolder) -> bool:
    """Whether the shares of an endpoint may have to be moved."""
    wanted = folder.wanted()
    return not folder.is_over() and (bool(wanted.get("ramp")) or len(wanted.get("variants", [])) > 1)


def keep(folder: EndpointFolder) -> None:
    """Look once: move back what fails, or on what is due."""
    wanted, actual = folder.wanted(), folder.actual()
    if wanted.get("stopped") or actual.get("generation") != wanted.get("generation") or actual.get("error"):
        return
    variants = routing.read(wanted["variants"])
    champion = _stays(variants, wanted.get("ramp"))
    ramp = wanted.get("ramp") or {}
    entries = [e for e in requests_log.newest(folder.requests, 4 * 2**20) if e.generation == wanted["generation"]]
    for variant in variants:
        if champion is None or variant.model == champion.model or variant.shadow:
            continue
        why = ramps.trouble(_health(entries, champion.model), _health(entries, variant.model))
        if ramp.get("guards") and variant.model == ramp["model"]:
            why = guards.broken([guards.read(text) for text in ramp["guards"]], *_answers(entries, variant.model)) or why
        if why:
            _move(folder, wanted, _without(variants, variant, champion), None, f"rolled back {variant.model[:8]}: {why}")
            return
    if ramp and time.time() >= ramp["at"]:
        weight = next((v.weight for v in variants if v.model == ramp["model"]), 100)
        step = ramps.following(ramp["steps"], weight)
        if step is not None:
            goes_on = ramps.following(ramp["steps"], step) or (ramp.get("guards") and step < 100)  # guarded where it stays
            after = {**ramp, "at": time.time() + ramp["every_s"]} if goes_on else None
            moved = routing.with_model(variants, ramp["model"], None if step == 100 else step)
            _move(folder, wanted, moved, after, f"ramp: {ramp['model'][:8]} from {weight} to {step} %")


def _stays(variants: Sequence[Variant], ramp: Mapping[str, Any] | None) -> Variant | None:
    """The variant that takes over when another fails: the one that was there before the ramp."""
    named = [variant for variant in variants if ramp and variant.model == ramp["champion"]]
    return named[0] if named else routing.champion(variants)


def _without(variants: Sequence[Variant], failing: Variant, champion: Variant) -> tuple[Variant, ...]:
    kept = [variant for variant in variants if variant.model not in (failing.model, champion.model)]
    return routing.checked([Variant(champion.model, champion.weight + failing.weight), *kept])


def _health(entries: Sequence[Entry], model: str) -> Health:
    failures, times = _answers(entries, model)
    return Health(len(times), failures, statistics.median(times) if times else 0.0)


def _answers(entries: Sequence[Entry], model: str) -> tuple[int, list[float]]:
    """How many requests a model failed on, and how long it took for each of the others."""
    mine = [e for e in entries if e.model == model and not e.shadow]
    times = [e.ms for e in mine if e.status == 200]
    return len(mine) - len(times), times


def _move(folder: EndpointFolder, wanted: Mapping[str, Any], variants: Sequence[Variant], ramp: Mapping[str, Any] | None, why: str) -> None:
    """Deploy other shares of models that are loaded already, as a record of its own; the next look waits until they are followed."""
    from jupyter_mlp.store import deployments
    from jupyter_mlp.store.workspace import Workspace

    workspace = Workspace(Path(wanted["workspace"]))
    with folder.locked("deploy") as mine:
        if not mine or folder.wanted() != wanted:
            return  # somebody deploys: that is the newer word
        used = [Ref("model", variant.model) for variant in variants]
        with workspace.activities.recording("deploy", name=folder.name, used=used, parameters={"to": folder.name, "why": why}) as draft:
            before = workspace.activities.maker(deployments.newest(workspace, folder.name))
            generation = int(wanted["generation"]) + 1
            state = {**wanted, "generation": generation, "variants": [v.to_dict() for v in variants], "ramp": ramp}
            folder.want(state)
            _record(draft, folder, state, before.id if before else None, why)
    _log.warning("%s", why)


def _record(draft: Draft, folder: EndpointFolder, state: Mapping[str, Any], before: str | None, why: str) -> None:
    draft.made.append(Ref("endpoint", folder.name, draft.activity.id))
    draft.facts.update(variants=state["variants"], address=folder.address, generation=state["generation"], before=before, why=why)
