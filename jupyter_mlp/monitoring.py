"""Step 6, monitor: what an endpoint was asked and answered, and whether its input still looks like the training data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import deployments, registry
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    from jupyter_mlp.serving.requests_log import Entry
    from jupyter_mlp.serving.verdicts import Verdict

DRIFTED = 0.2  # PSI from which a feature is flagged; the usual rule of thumb
ENOUGH = 200  # rows below which PSI is mostly noise, with ten bins
_DRAWN = 30
_FEW = "too few rows"


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """What happened at an endpoint.

    Attributes:
        metrics: requests, rows, errors, latency in ms, drifted features, ... as plain numbers.
        variants: per model requests, rows, latency. `drift`: per feature PSI against the training data.
        verdicts: on every challenger, whether it is better than the champion; true however often it is asked.
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
            "verdicts": [one.to_dict() for one in self.verdicts],
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
        rows = [[v["model"], v["role"], v["requests"], v["rows"], v["p50_ms"], v["p99_ms"]] for v in self.variants]
        tables = [Table(["variant", "role", "requests", "rows", "p50 ms", "p99 ms"], rows)]
        if any(d["verdict"] != _FEW for d in self.drift):
            shown = [[d["name"], d["psi"], d["verdict"], d["training"], d["now"]] for d in self.drift]
            tables.append(Table(["feature", "PSI", "", "training", "now"], shown, "drift against the training data"))
        return Card(f"report on endpoint:{self.endpoint.name}", [*facts, ("report", self.report)], tables, self.figures, self.notes)


def monitor(endpoint: str | Shown) -> Report:
    """Return what an endpoint was asked since it was made: traffic, latency, errors, drift of its inputs.

    Raises:
        NotFoundError: there is no such endpoint.

    Example:
        >>> mlp.monitor("delays").metrics["p99_ms"]
    """
    from jupyter_mlp.serving import experiment_tables, requests_log

    workspace = current()
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
        report = _report(workspace, made, reference, folder, entries)
        report = _published(replace(report, verdicts=tuple(verdicts)), workspace)
        draft.made.append(made)
        draft.facts.update(report.to_dict())
    return report


def _report(workspace: Workspace, made: Ref, reference: Ref, folder: deployments.EndpointFolder, entries: list[Entry]) -> Report:
    from jupyter_mlp.serving import places, segments

    answered = [e for e in entries if e.status == 200 and not e.shadow]
    failed = [e for e in entries if e.status != 200 and not e.shadow]
    drift, notes = _drift(workspace, answered)
    newer = _newer_data(workspace, folder)
    variants = list(_variants(folder.wanted().get("variants", []), entries))
    metrics = {
        "requests": len(answered) + len(failed),
        "rows": sum(e.rows for e in answered),
        "errors": len(failed),
        "error_share": len(failed) / max(1, len(answered) + len(failed)),
        **_latency(answered),
        "drifted": [d["name"] for d in drift if d["verdict"] == "drifted"],
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
    if newer or metrics["drifted"]:
        notes.append(f"%mlp_retrain {reference.name} trains it again on the newest, and puts it beside as a shadow.")
    if not answered:
        notes.append(f"No request was answered yet; send one: mlp.predict('endpoint:{reference.name}', data=...)")
    errors = Counter(str(e.status) for e in failed)
    state = places.state(workspace, folder)
    return Report(
        made,
        reference,
        "running" if state in ("ready", "starting") else state,
        metrics,
        tuple(variants),
        dict(errors.most_common()),
        tuple(drift),
        tuple(_figures(entries, drift)),
        tuple(notes),
    )


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


def _drift(workspace: Workspace, answered: Sequence[Entry]) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare what the newest model was asked with the data it learned from."""
    if not answered:
        return [], []
    model = answered[-1].model
    rows = [row for e in answered if e.model == model for row in e.instances]
    said = [value for e in answered if e.model == model and e.instances for value in e.predictions]
    notes = (
        []
        if len(rows) >= ENOUGH
        else [f"Drift is judged from {ENOUGH} rows on; model {model[:8]} got {len(rows)}, so nothing is flagged yet."]
    )
    try:
        recipe = registry.load(workspace, f"model:{model}").recipe
    except (NotFoundError, InvalidInputError, OSError) as error:
        return [], [*notes, f"No drift: {error}".splitlines()[0]]
    found = [
        _compare(name, recipe.statistics[name], [row.get(name) for row in rows]) for name in recipe.columns if name in recipe.statistics
    ]
    target = recipe.statistics.get(recipe.target or "")
    if target:
        output = _compare(f"prediction ({recipe.target})", target, said, as_class=recipe.task in ("binary", "multiclass"))
        # Models answer in a narrower range than their target has, so this number is shown and not judged.
        found.append(output and {**output, "verdict": _FEW if output["verdict"] == _FEW else "against the target, not judged"})
    return sorted((d for d in found if d is not None), key=lambda d: -d["psi"]), notes


def _compare(name: str, known: Mapping[str, Any], values: list[Any], as_class: bool = False) -> dict[str, Any] | None:
    from jupyter_mlp.core import metrics

    if known["kind"] == "category" or as_class:
        before, after, told = _by_value(known, values)
    else:
        before, after, told = _by_bin(known, values)
    if not sum(before):
        return None
    found = metrics.psi(before, after)
    # A quiet feature is no news and a loud one in a handful of rows is none either.
    verdict = _FEW if len(values) < ENOUGH else "drifted" if found > DRIFTED else "as trained"
    return {"name": name, "psi": round(found, 4), "verdict": verdict, "rows": len(values), "training": told[0], "now": told[1]}


def _by_bin(known: Mapping[str, Any], values: list[Any]) -> tuple[list[float], list[float], tuple[str, str]]:
    import numpy as np

    numbers = np.array([n for n in map(_number, values) if n is not None], dtype=np.float64)
    count, nulls = float(known.get("count", 0)), float(known.get("nulls", 0))
    edges, shares = np.asarray(known["edges"]), np.asarray(known["shares"])
    counted = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(shares)).astype(float)
    # Training rows count as if there had been as many as requests, so that half a row weighs the same on both sides.
    scale = len(values) / max(1.0, count + nulls)
    before = [*(shares * count * scale).tolist(), nulls * scale]
    after = [*counted.tolist(), float(len(values) - len(numbers))]
    now = f"mean {numbers.mean():.4g}" if len(numbers) else "no values"
    return before, after, (f"mean {known.get('mean', 0):.4g}", now)


def _by_value(known: Mapping[str, Any], values: list[Any]) -> tuple[list[float], list[float], tuple[str, str]]:
    seen = Counter("(missing)" if value is None else str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    trained = dict(zip(known.get("values", []), known.get("counts", []), strict=False))
    trained["(missing)"] = known.get("nulls", 0)
    total = max(1, sum(trained.values()))
    names = [*trained, "(new)"]
    counted = [float(seen.pop(name, 0)) for name in trained]
    before = [*(count * len(values) / total for count in trained.values()), 0.0]
    after = [*counted, float(sum(seen.values()))]

    def most(counts: list[float]) -> str:
        best = max(range(len(counts)), key=counts.__getitem__)
        return f"{names[best]} {counts[best] / max(1.0, sum(counts)):.0%}"

    return before, after, (most(before), most(after))


def _number(value: Any) -> float | None:
    """A logged feature as the number its statistics are in; times are seconds since 1970."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(value)


def _figures(entries: Sequence[Entry], drift: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
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
    if any(d["verdict"] != _FEW for d in drift):
        named = [(d["name"], d["psi"]) for d in drift[:_DRAWN]]
        yield charts.bars("Drift against the training data", named, "PSI", DRIFTED, f"largest: {named[0][0]}, {named[0][1]:.2f}")


def _series(entry: Entry) -> str:
    if entry.status != 200:
        return f"error {entry.status}"
    return f"{entry.model[:8]} (shadow)" if entry.shadow else entry.model[:8]


def _published(report: Report, workspace: Workspace) -> Report:
    from jupyter_mlp.reports.pages import page

    key = workspace.artifacts.put(page(report.card()).encode(), ".html")
    return replace(report, report=workspace.artifacts.path(key, ".html"))
