"""A training run as people see it: the line while it runs, and its card with metrics, curves and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jupyter_mlp.core.cards import Card, Figure, Table, size_text
from jupyter_mlp.core.clusters import Sight
from jupyter_mlp.core.entities import CANCELLED, FAILED, QUEUED, RUNNING, Activity
from jupyter_mlp.core.metric_names import rises
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import attempts, checkpoints, jobs, usage
from jupyter_mlp.store.attempts import Attempt
from jupyter_mlp.store.jobs import RunFolder


class Seen(Protocol):
    """What a card needs of a run."""

    @property
    def ref(self) -> str:
        """Its exact reference, as text."""
        ...

    @property
    def reused(self) -> bool:
        """Whether it was known already."""
        ...

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """What it learns from."""
        ...

    @property
    def recipe(self) -> str | None:
        """The fitted recipe."""
        ...

    @property
    def model(self) -> str | None:
        """What it made."""
        ...

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Its starts."""
        ...


def card(run: Seen, activity: Activity, folder: RunFolder, place: int | None, sight: Sight) -> Card:
    """Return state, metrics and how they came about.

    Args:
        place: in this machine's queue, where it waits there. `sight`: what its engine says of it, while it has not ended.
    """
    spec = folder.read("spec.json") or {}
    facts: list[tuple[str, Any]] = [
        ("state", _state(activity, run.reused, place, sight)),
        ("data", ", ".join(ref.short for ref in run.inputs) or _own(spec)),
    ]
    facts += [("on", spec.get("on", "")), *_used(folder), ("code", _code(spec))]
    if before := (spec.get("resume") or {}).get("run"):
        facts.append(("goes on from", f"{before} at step {spec['resume']['step']:,}"))
    if run.recipe:
        recipe = Ref.parse(run.recipe).short
        facts.append(("recipe", f"{recipe}{_width(folder)}; %mlp_recipe {recipe.removeprefix('recipe:')} shows it"))
    if run.model:
        facts.append(("model", run.model))
    series = jobs.metric_series(folder)
    rows = [(name, points[-1][1], _best(name, points)) for name, points in sorted(series.items())]
    tables = [Table(["metric", "last", "best"], rows)] if rows else []
    notes = [f"{activity.error}"] if activity.error else []
    notes += [_told(attempt) for attempt in run.attempts if attempt.why]
    if activity.state in (FAILED, CANCELLED) and (how := goes_on(run.ref, folder)):
        notes.append(how)
    if activity.state == RUNNING:
        notes.append(f"%mlp_attach {run.ref} shows it again from any kernel; --wait waits, --cancel stops it.")
    return Card(f"{activity.name}  {run.ref}", facts, tables, _curves(series), [*notes, *_notes(folder)])


def goes_on(ref: str, folder: RunFolder) -> str:
    """Say what to type to go on with a run that has ended; "" where it left nothing to go on from."""
    step = checkpoints.last_step(folder.path)
    return "" if step is None else f"%mlp_train --resume {ref} goes on from step {step:,}."


def news(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line for the progress bar, and the share that is done; None where the event is no news of the training."""
    if "note" in event:
        return {"text": str(event["note"])}
    if event.get("why"):
        return {"text": f"{event['why']} Attempt {event['attempt']} begins."}
    if "epoch" not in event:
        return None
    step, steps = event.get("step", 0), event.get("steps", 0)
    parts = [f"epoch {min(event['epoch'] + 1, event['epochs'])} of {event['epochs']}"]
    if steps:
        parts.append(f"step {step:,} of {steps:,}")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.4g}")
    if event.get("rows_per_s"):
        parts.append(f"{event['rows_per_s']:,} rows/s")
    if event.get("left_s") is not None:
        parts.append(f"{_time_text(event['left_s'])} left")
    parts += [f"{name} {value:.4g}" for name, value in event.get("metrics", {}).items()]
    return {"text": ", ".join(parts), "share": step / steps if steps else None}


def _time_text(seconds: float) -> str:
    """A rough time, as people say it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _told(attempt: Attempt) -> str:
    place = "the beginning" if attempt.resumes is None else f"step {attempt.resumes:,}"
    return f"{attempt.why} Attempt {attempt.number} went on from {place}."


def _state(activity: Activity, reused: bool, place: int | None, sight: Sight) -> str:
    if sight.why:
        return f"{sight.state}: {sight.why}"
    if place is not None:
        return f"{QUEUED}, place {place}: other jobs have the machine's processes"
    if reused:
        return f"{activity.state}; known already: the same code, data and settings (--fresh trains again)"
    return activity.state if activity.seconds is None else f"{activity.state} in {activity.seconds:,.1f} s"


def _used(folder: RunFolder) -> list[tuple[str, str]]:
    """What its processes use of their machines: cores and GPUs on the mean, memory at its most."""
    said = usage.said(folder)
    if not said:
        return []
    ranks = len({use.rank for use in said})
    told = [
        f"{sum(use.cores for use in said) / len(said):.1f} cores",
        f"{size_text(max(use.memory for use in said))} of memory",
    ]
    if busy := [use.gpu for use in said if use.gpu is not None]:
        told.append(f"GPU {sum(busy) / len(busy):.0%} busy")
    if taken := [(use.gpu_memory, use.gpu_has) for use in said if use.gpu_memory and use.gpu_has]:
        told.append("{} of its {}".format(*map(size_text, max(taken))))
    devices = sorted({use.device for use in said})
    return [("device", ", ".join(devices)), ("uses", ", ".join(told) + (f", each of {ranks} processes" if ranks > 1 else ""))]


def _own(spec: Mapping[str, Any]) -> str:
    """Where the batches come from that are no dataset's."""
    name = (spec.get("own") or {}).get("data")
    return f"{name}, made in the job by its own code" if name else "the model's own train_dataloader()"


def _code(spec: Mapping[str, Any]) -> str:
    captured = spec.get("captured", [])
    return f"{', '.join(title for title, _ in captured[-3:])} ({len(captured)} pieces, {sum(size for _, size in captured):,} characters)"


def _width(folder: RunFolder) -> str:
    """What the recipe makes of the columns, as it stands in the run's folder."""
    from jupyter_mlp.core.recipe import Recipe

    fitted = folder.read("fitted.json")
    if fitted is None:
        return ""
    recipe = Recipe.from_dict(fitted)
    return f", {len(recipe.inputs)} columns -> {recipe.width:,} features"


def _best(name: str, points: list[tuple[int, float]]) -> float:
    best = max if rises(name) else min
    return best(value for _, value in points)


def _curves(series: Mapping[str, list[tuple[int, float]]]) -> list[Figure]:
    """One picture of all losses and errors, once there are two points to draw a line between."""
    drawn = {name: points for name, points in series.items() if len(points) > 1}
    if not drawn:
        return []
    from jupyter_mlp.reports import charts

    return [charts.lines("Training", drawn, "step", "metric")]


def _notes(folder: RunFolder) -> list[str]:
    return [note for note in (str(event.get("note", "")) for event in attempts.history(folder)) if note and note != "exporting"]
