"""Step 6, monitor: what an endpoint was asked and answered, and whether its input still looks like the training data."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import alarms, drift, guards
from jupyter_mlp.core.alarms import Alarm
from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import deployments, modes, registry
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    from jupyter_mlp.core.guards import Guard
    from jupyter_mlp.serving.requests_log import Entry
    from jupyter_mlp.serving.verdicts import Verdict

_DRAWN = 30
_NOTABLE = 0.05  # share of rows that are missing, or outside of what training saw, from which it is said


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """What happened at an endpoint.

    Attributes:
        metrics: requests, rows, errors, latency in ms, drifted features, ... as plain numbers.
        variants: per model requests, rows, latency. `drift`: per feature PSI, test and verdict against the training data.
        verdicts: on every challenger, whether it is better than the champion; true however often it is asked.
        alarms: what somebody should be told, in sentences. `history`: answers, latency and PSI per hour, or day.
        look: the how manyth report on this endpoint it is. Alarms of errors, slow answers and drift that are false come with 5 % chance
            at most in all reports together, so that one may look as often as one likes.
        report: path of a self-contained HTML page with everything.
    """

    reference: Ref
    endpoint: Ref
    state: str
    metrics: dict[str, Any]
    variants: tuple[dict[str, Any], ...]
    errors: dict[str, int]
    drift: tuple[dict[str, Any], ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    report: Path | None = None
    verdicts: tuple[Verdict, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    look: int = 1

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures, as JSON types."""
        return {
            "ref": self.ref,
            "kind": "report",
            "endpoint": str(self.endpoint),
            "state": self.state,
            "metrics": self.metrics,
            "variants": list(self.variants),
            "errors": self.errors,
            "drift": list(self.drift),
            "history": list(self.history),
            "verdicts": [one.to_dict() for one in self.verdicts],
            "look": self.look,
            "alarms": [{"name": one.name, "says": one.says} for one in self.alarms],
            "report": str(self.report) if self.report else None,
            "notes": list(self.notes),
        }

    def card(self) -> Card:
        """Return counts, latency, variants, drift and pictures."""
        m = self.metrics
        latency = "-" if m["p50_ms"] is None else f"p50 {m['p50_ms']:.2f}, p95 {m['p95_ms']:.2f}, p99 {m['p99_ms']:.2f} ms"
        errors = ", ".join(f"{count} x {status}" for status, count in self.errors.items()) or "none"
        facts = [("state", self.state), ("requests", f"{m['requests']:,} ({m['rows']:,} rows)"), ("latency", latency), ("errors", errors)]
        facts[:0] = [("verdict", one.sentence) for one in self.verdicts]
        facts[:0] = [("alarm", one.says) for one in self.alarms if not one.name.startswith("verdict")]
        rows = [[v["model"], v["role"], v["requests"], v["rows"], v["p50_ms"], v["p99_ms"]] for v in self.variants]
        tables = [Table(["variant", "role", "requests", "rows", "p50 ms", "p99 ms"], rows)]
        if any(d["verdict"] != drift.FEW for d in self.drift):
            names = ["feature", "PSI", "p", "", "training", "now", "missing, outside"]
            tables.append(Table(names, [_line(d) for d in self.drift], "drift against the training data"))
        return Card(f"report on endpoint:{self.endpoint.name}", [*facts, ("report", self.report)], tables, self.figures, self.notes)


def _line(d: Mapping[str, Any]) -> list[Any]:
    """One feature in the table of drift."""
    chance = "< 0.0001" if d["p"] < 0.0001 else f"{d['p']:.4f}"
    outside = "" if d["outside"] is None else f", {d['outside']:.0%}"
    was = f" (was {d['was_missing']:.0%})" if d["missing"] or d["was_missing"] else ""
    return [
        d["name"],
        d["psi"],
        f"{chance} {d['test'].replace('chi-square', 'chi2')}",
        d["verdict"],
        d["training"],
        d["now"],
        f"{d['missing']:.0%}{was}{outside}",
    ]


def monitor(endpoint: str | Shown, *, notify: Sequence[str] = (), guard: Sequence[str] = ()) -> Report:
    """Return what an endpoint was asked since it was made: traffic, latency, errors, drift of its inputs and answers.

    Args:
        notify: whom to tell of an alarm when it is raised, and not again while it stands: https://..., mailto:..., command:...
        guard: what the newest requests must keep to: "error_rate<=1%", "p99<=50ms"; errors above 2 % and answers that take much longer
            than before are alarms when left out.

    Raises:
        NotFoundError: there is no such endpoint. JobError: somebody could not be told; the next call tries again.

    Example:
        >>> mlp.monitor("delays").metrics["p99_ms"]
    """
    from jupyter_mlp.notebook import alarms as telling
    from jupyter_mlp.notebook import notify as notifying
    from jupyter_mlp.serving import experiment_tables, requests_log

    workspace = current()
    targets, limits = [notifying.check(target) for target in notify], [guards.read(text) for text in guard]
    reference = deployments.newest(workspace, named(endpoint))
    folder = deployments.folder(workspace, reference.name)
    with workspace.activities.recording(
        "monitor", name=reference.name, used=[reference], parameters={"endpoint": named(endpoint)}
    ) as draft:
        time.sleep(0.6 if folder.running else 0)  # the host writes its log within half a second
        entries = requests_log.entries(folder.requests)
        experiment_tables.fold(workspace, folder)
        verdicts, read = _verdicts(workspace, folder)
        draft.used += read
        made = Ref("report", draft.activity.id)
        report = _report(workspace, made, reference, folder, entries, _looks(workspace, reference.name) + 1)
        report = replace(report, verdicts=tuple(verdicts))
        report = _published(replace(report, alarms=tuple(_alarms(report, entries, limits))), workspace)
        draft.made.append(made)
        draft.facts.update(report.to_dict())
    if not modes.verifying():
        telling.tell(folder, targets, report.alarms, {"report": str(report.report)}, workspace.settings)
    return report


def _alarms(report: Report, entries: Sequence[Entry], limits: Sequence[Guard]) -> list[Alarm]:
    asked = [entry for entry in entries if not entry.shadow]
    failed, times = [entry.status != 200 for entry in asked], [entry.ms for entry in asked]
    traffic = alarms.traffic(failed, times, limits, alarms.at_look(report.look))
    drifted = [one for one in report.drift if one["verdict"] == "drifted"]
    return alarms.raised(report.state, report.metrics, drifted, report.verdicts, traffic)


def _looks(workspace: Workspace, name: str) -> int:
    """How many reports there are on an endpoint."""
    newest = workspace.activities.latest("monitor", name)
    return int(newest.facts.get("look", 0)) if newest else 0


def _report(workspace: Workspace, made: Ref, reference: Ref, folder: deployments.EndpointFolder, entries: list[Entry], look: int) -> Report:
    from jupyter_mlp.serving import places, segments

    answered = [e for e in entries if e.status == 200 and not e.shadow]
    failed = [e for e in entries if e.status != 200 and not e.shadow]
    drifts, notes = _drift(workspace, folder, answered, alarms.at_look(look))
    past = _history(workspace, folder.name, answered)
    flagged = [d for d in drifts if d["verdict"] == "drifted"]
    newer = _newer_data(workspace, folder)
    variants = list(_variants(folder.wanted().get("variants", []), entries))
    metrics = {
        "requests": len(answered) + len(failed),
        "rows": sum(e.rows for e in answered),
        "errors": len(failed),
        "error_share": len(failed) / max(1, len(answered) + len(failed)),
        **_latency(answered),
        "drifted": [d["name"] for d in flagged if not d["output"]],
        "output_drifted": any(d["output"] for d in flagged),
        "models": sorted({e.model for e in answered}),
        "newer_data": str(newer) if newer else None,
        "lost": segments.lost(folder.requests),
    }
    if metrics["lost"]:
        notes.append(
            f"{metrics['lost']:,} requests were lost before they reached the lake: the log was at its limit of 2 GiB, or no disk took it. "
            f"Why: {folder.log}"
        )
    if newer:
        notes.append(f"There is newer data than the model learned from: {newer.short}.")
    if newer or flagged:
        notes.append(f"%mlp_retrain {reference.name} trains it again on the newest, and puts it beside as a shadow.")
    if not answered:
        notes.append(f"No request was answered yet; send one: mlp.predict('endpoint:{reference.name}', data=...)")
    errors = Counter(str(e.status) for e in failed)
    state = places.state(workspace, folder)
    return Report(
        made,
        reference,
        "running" if state in ("ready", "cold", "starting") else state,
        metrics,
        tuple(variants),
        dict(errors.most_common()),
        tuple(drifts),
        (*_figures(entries, drifts), *_past(past, entries)),
        tuple(notes),
        history=tuple(past),
        look=look,
    )


def _history(workspace: Workspace, endpoint: str, answered: Sequence[Entry]) -> list[dict[str, Any]]:
    """What happened per hour or day, in the lake; drift is that of the newest model's input."""
    from jupyter_mlp.serving import history

    if not answered:
        return []
    model = answered[-1].model
    try:
        recipe = registry.load(workspace, f"model:{model}").recipe
        known = {name: recipe.statistics[name] for name in recipe.columns if name in recipe.statistics}
    except (NotFoundError, InvalidInputError, OSError):  # the drift says why
        known = {}
    return history.periods(workspace, endpoint, model, known)


def _verdicts(workspace: Workspace, folder: deployments.EndpointFolder) -> tuple[list[Verdict], list[Ref]]:
    from jupyter_mlp.serving import routing, verdicts

    actual = folder.actual()
    if not actual.get("serving"):
        return [], []
    variants = routing.read(actual["serving"])
    best = routing.champion(variants)
    assert best is not None
    model = registry.load(workspace, f"model:{best.model}")
    target = f"{model.target} error" if model.task == "regression" else f"wrong {model.target or 'answers'}"
    return verdicts.judge(workspace, folder.name, variants, int(actual["generation"]), target)


def _newer_data(workspace: Workspace, folder: deployments.EndpointFolder) -> Ref | None:
    """What is newer than the data that the model with most of the traffic learned from."""
    from jupyter_mlp.serving import routing
    from jupyter_mlp.store import freshness

    best = routing.champion(routing.read(folder.wanted()["variants"]))
    assert best is not None
    try:
        return freshness.newer(workspace, str(registry.load(workspace, f"model:{best.model}").card_data.get("data") or ""))
    except (NotFoundError, OSError):
        return None


def _latency(entries: Sequence[Entry]) -> dict[str, float | None]:
    if not entries:
        return {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    import numpy as np

    found = np.percentile([e.ms for e in entries], [50, 95, 99])
    return {"p50_ms": float(found[0]), "p95_ms": float(found[1]), "p99_ms": float(found[2])}


def _variants(wanted: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    now = {v["model"]: "shadow" if v["shadow"] else f"{v['weight']} %" for v in wanted}
    seen = dict.fromkeys([*now, *(e.model for e in entries if e.model)])
    for model in seen:
        mine = [e for e in entries if e.model == model and e.status == 200]
        yield {
            "model": model,
            "role": now.get(model, "earlier"),
            "requests": len(mine),
            "rows": sum(e.rows for e in mine),
            **_latency(mine),
        }


def _drift(
    workspace: Workspace, folder: deployments.EndpointFolder, answered: Sequence[Entry], false_alarms: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare what the newest model was asked and answered with the data it learned from."""
    if not answered:
        return [], []
    uuid = answered[-1].model
    rows = [row for e in answered if e.model == uuid for row in e.instances]
    said = [value for e in answered if e.model == uuid and e.instances for value in e.predictions]
    few = f"Drift is judged from {drift.ENOUGH} rows on; model {uuid[:8]} got {len(rows)}, so nothing is flagged yet."
    notes = [few] if len(rows) < drift.ENOUGH else []
    try:
        model = registry.load(workspace, f"model:{uuid}")
        recipe = model.recipe
    except (NotFoundError, InvalidInputError, OSError) as error:
        return [], [*notes, f"No drift: {error}".splitlines()[0]]
    known = {name: recipe.statistics[name] for name in recipe.columns if name in recipe.statistics}
    compared = [drift.compare(name, statistics, [row.get(name) for row in rows]) for name, statistics in known.items()]
    features = [one for one in compared if one is not None]
    output, why = _output(workspace, folder, model, said)
    judged = [*features, output] if output and not why else features
    said_of = zip(judged, drift.verdicts(judged, false_alarms), strict=True)
    told = [{**vars(one), "output": one is output, "verdict": verdict} for one, verdict in said_of]
    if output and why:
        told.append({**vars(output), "output": True, "verdict": drift.FEW if output.rows < drift.ENOUGH else "not judged"})
    notes += [why] if why and len(said) >= drift.ENOUGH else []
    return sorted(told, key=lambda d: -d["psi"]), [*notes, *_unlike(told)]


def _output(
    workspace: Workspace, folder: deployments.EndpointFolder, model: registry.Model, said: list[Any]
) -> tuple[drift.Compared | None, str | None]:
    """Compare the answers with those to rows the model did not learn from; where there are none, with the target, and say why."""
    from jupyter_mlp.serving import expected_answers

    as_class = model.task in ("binary", "multiclass")
    name = f"prediction ({model.target})"
    target = model.recipe.statistics.get(model.target or "")
    if not target or not said:
        return None, None
    try:
        return drift.compare(name, expected_answers.measured(workspace, folder, model.uuid), said, as_class), None
    except Exception as error:  # noqa: BLE001 - whatever a model of somebody's raises, it is said, and the rest of the report stands
        # Models answer in a narrower range than their target has: the number is shown and not judged.
        why = (str(error).splitlines() or [type(error).__name__])[0]
        return drift.compare(name, target, said, as_class), f"The drift of the answers is not judged, only shown: {why}"


def _unlike(told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is notably more often missing than in training, or outside of what training saw."""
    for one in told:
        if one["rows"] < drift.ENOUGH:
            continue
        if one["missing"] > one["was_missing"] + _NOTABLE:
            yield f"{one['name']} is missing in {one['missing']:.0%} of the rows, in training in {one['was_missing']:.0%}."
        if (one["outside"] or 0.0) > _NOTABLE:
            yield f"{one['name']} is outside of what training saw in {one['outside']:.0%} of the rows."


def _figures(entries: Sequence[Entry], drifts: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    from jupyter_mlp.reports import charts

    if entries:
        first, last = min(e.time for e in entries), max(e.time for e in entries)
        width = max(1.0, (last - first) / _DRAWN)
        counts = Counter((int((e.time - first) // width), _series(e)) for e in entries)
        names = sorted({_series(e) for e in entries})
        steps = range(int((last - first) // width) + 1)
        series = [
            (datetime.fromtimestamp(first + i * width, UTC).isoformat(), name, counts[i, name] / width) for i in steps for name in names
        ]
        yield charts.over_time("Requests over time", series, "requests / s", f"{len(entries):,} requests in {last - first:,.0f} s")
    if any(d["verdict"] != drift.FEW for d in drifts):
        named = [(d["name"], d["psi"]) for d in drifts[:_DRAWN]]
        yield charts.bars("Drift against the training data", named, "PSI", drift.DRIFTED, f"largest: {named[0][0]}, {named[0][1]:.2f}")


def _past(past: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> Iterator[Figure]:
    """What several hours or days say, where there are several."""
    from jupyter_mlp.reports import charts
    from jupyter_mlp.serving import history

    if len(past) < 2:
        return
    times = [(one["from"], name, one[f"{name}_ms"]) for one in past for name in ("p50", "p95")]
    yield charts.over_time("Latency over time", times, "ms", f"{len(past)} periods")
    begins = [datetime.fromisoformat(one["from"]).timestamp() for one in past]
    counts = Counter((bisect_right(begins, e.time) - 1, e.status != 200) for e in entries if not e.shadow and e.time >= begins[0])
    kept = [at for at in range(len(past)) if counts[at, True] + counts[at, False]]  # the log goes back less far than the lake
    if any(counts[at, True] for at in kept):
        shares = [(past[at]["from"], "errors", 100 * counts[at, True] / (counts[at, True] + counts[at, False])) for at in kept]
        yield charts.over_time("Errors over time", shares, "% of requests", f"{len(kept)} periods")
    drifted = list(history.drifted_most(past))
    if drifted:
        yield charts.over_time("Drift over time", drifted, "PSI", f"largest: {max(drifted, key=lambda one: one[2])[1]}")


def _series(entry: Entry) -> str:
    if entry.status != 200:
        return f"error {entry.status}"
    return f"{entry.model[:8]} (shadow)" if entry.shadow else entry.model[:8]


def _published(report: Report, workspace: Workspace) -> Report:
    from jupyter_mlp.reports.pages import page

    key = workspace.artifacts.put(page(report.card()).encode(), ".html")
    return replace(report, report=workspace.artifacts.path(key, ".html"))
