"""Moves a ramp from step to step, and traffic back from a challenger that fails: in a process that lives without kernel.

On this machine that is the host's parent, for a cluster a keeper (keeper.py).

wanted.json holds {"ramp": {"model", "champion", "steps", "every_s", "at", "guards"}} beside the variants; `at` is when the next
step is due. Every move is a deploy of its own in the records, so that a rollback and a question "since when" work alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.core import bad_shares, guards, ramps
from jupyter_mlp.core.guards import Guard
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.tallies import Tally
from jupyter_mlp.serving import routing, tallying
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.serving.tallying import Counted
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.deployments import EndpointFolder

_log = logging.getLogger(__name__)


def is_needed(folder: EndpointFolder) -> bool:
    """Whether the shares of an endpoint may have to be moved."""
    return folder.shares_move


def keep(folder: EndpointFolder) -> None:
    """Look once: move back what fails, or on what is due."""
    wanted, actual = folder.wanted(), folder.actual()
    if wanted.get("stopped") or actual.get("generation") != wanted.get("generation") or actual.get("error"):
        return
    variants = routing.read(wanted["variants"])
    champion = _stays(variants, wanted.get("ramp"))
    ramp = wanted.get("ramp") or {}
    guarded = [guards.read(text) for text in ramp.get("guards", ())]
    counted = tallying.look(folder, wanted["generation"], guards.limits_ms(guarded))
    for variant in variants:
        if champion is None or variant.model == champion.model or variant.shadow:
            continue
        mine = guarded if ramp and variant.model == ramp["model"] else []
        alpha = bad_shares.ALPHA / max(1, len(ramp.get("steps", ())))  # each step of a ramp has its part
        why = _why(counted, champion.model, variant.model, mine, alpha)
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


def _why(counted: Counted, champion: str, challenger: str, guarded: Sequence[Guard], alpha: float) -> str | None:
    """Why a challenger must give its traffic back, or None.

    Args:
        alpha: the chance that one that is well has to, at any look while the requests are shared like this.
    """
    if challenger not in counted.whole:  # nobody asked it
        return None
    why = _of_a_period(counted.whole.get(champion, counted.none()), counted.whole[challenger], guarded, alpha / 2)
    if why is None and counted.blocks:
        why = _of_a_period(counted.lately(champion), counted.lately(challenger), guarded, bad_shares.spent(counted.blocks, alpha / 2))
    return why


def _of_a_period(champion: Tally, challenger: Tally, guarded: Sequence[Guard], alpha: float) -> str | None:
    each = alpha / 2 if guarded else alpha
    return guards.broken(guarded, challenger, each) or ramps.trouble(champion, challenger, each)


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
