"""Is one model behind an endpoint better than the other? Predictions and outcomes, joined by id, become one sentence.

Only what the present variants answered counts: where weights change, callers do too, and adding up over both would
compare one model's mornings with the other's evenings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_mlp.core import experiments
from jupyter_mlp.core.experiments import Arm, Comparison
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import experiment_tables, routing
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_READ = ["time", "id", "model", "generation", "shadow", "key", "prediction", "label"]


@dataclass(frozen=True)
class Verdict:
    """What can be said of a challenger B against the champion A.

    Attributes:
        sentence: it in words. `winner`: "A", "B" or None. `requests`: answers of both whose outcome is known.
        split_wrong: whether the requests were not split as they were meant to be; then nothing else is said.
    """

    sentence: str
    a: str
    b: str
    winner: str | None
    better: float
    low: float
    high: float
    requests: int
    more: int
    split_wrong: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types; bounds that are infinite are None."""
        found = dict(vars(self))
        return {**found, **{name: value if np.isfinite(value := found[name]) else None for name in ("better", "low", "high")}}


def judge(
    workspace: Workspace, endpoint: str, variants: Sequence[Variant], generation: int, target: str
) -> tuple[list[Verdict], list[Ref]]:
    """Return a verdict on every challenger of an endpoint, and the exact tables that were read."""
    champion = routing.champion(variants)
    challengers = [variant for variant in variants if champion and variant.model != champion.model]
    if not challengers or champion is None:
        return [], []
    refs = [Ref("table", name, workspace.lake.current(name)) for name in experiment_tables.names(endpoint)]
    if refs[0].version is None:
        return [], []
    answered = _answered(workspace, refs[0], generation)
    truth = _truth(workspace, refs[1])
    joined = {variant.model: _losses(answered, variant, truth) for variant in variants}
    found = []
    for challenger in challengers:
        wrong = None if challenger.shadow else _split(answered, champion, challenger)
        found.append(_verdict(joined, champion, challenger, target, wrong))
    return found, [ref for ref in refs if ref.version]


def _answered(workspace: Workspace, ref: Ref, generation: int) -> pa.Table:
    import pyarrow.compute as pc

    rows = experiment_tables.read(workspace, ref, _READ)
    return rows.filter(pc.equal(rows.column("generation"), generation))


def _truth(workspace: Workspace, ref: Ref) -> Mapping[str, float | str]:
    """What happened, by id; the last word counts."""
    if ref.version is None:
        return {}
    rows = experiment_tables.read(workspace, ref, ["time", "id", "value", "label"]).sort_by("time")
    columns = (rows.column(name).to_pylist() for name in ("id", "value", "label"))
    return {name: label if value is None else value for name, value, label in zip(*columns, strict=True)}


@dataclass(frozen=True)
class _Losses:
    """How wrong a variant was, and the unit that each answer belongs to."""

    ids: list[str]
    losses: np.ndarray
    units: np.ndarray


def _losses(answered: pa.Table, variant: Variant, truth: Mapping[str, float | str]) -> _Losses:
    """The losses of one variant where the outcome is known; rows of one key, or of one request, are one unit."""
    names: list[str] = []
    losses: list[float] = []
    units: list[str] = []
    columns = (answered.column(name).to_pylist() for name in ("id", "model", "shadow", "key", "prediction", "label"))
    seen: set[str] = set()
    for name, model, shadow, key, number, label in zip(*columns, strict=True):
        if model != variant.model or shadow != variant.shadow or name not in truth or name in seen:
            continue
        loss = _loss(number if label is None else label, truth[name])
        if loss is not None:
            seen.add(name)
            names.append(name)
            losses.append(loss)
            units.append(f"key {key}" if key is not None else _request(name))
    numbered = np.unique(np.array(units, dtype=object).astype(str), return_inverse=True)[1] if units else np.zeros(0, np.int64)
    return _Losses(names, np.array(losses), numbered)


def _request(name: str) -> str:
    """A request's rows share its fate: one unit."""
    start, slash, row = name.rpartition("/")
    return start if slash and row.isdigit() else name


def _loss(said: Any, happened: Any) -> float | None:
    if isinstance(said, float) and isinstance(happened, float):
        return abs(said - happened) if np.isfinite(happened) else None
    return float(_word(said) != _word(happened))


def _word(value: Any) -> str:
    """A label may come back as the number it looks like."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _split(answered: pa.Table, champion: Variant, challenger: Variant) -> tuple[int, int] | None:
    """The units of both where they refute the planned split, else None."""
    counted = {champion.model: set[str](), challenger.model: set[str]()}
    columns = (answered.column(name).to_pylist() for name in ("id", "model", "shadow", "key"))
    for name, model, shadow, key in zip(*columns, strict=True):
        if not shadow and model in counted:
            counted[model].add(f"key {key}" if key is not None else _request(name))
    a, b = len(counted[champion.model]), len(counted[challenger.model])
    share = challenger.weight / (champion.weight + challenger.weight)
    return (a, b) if experiments.split_is_wrong(a, b, share) else None


def _verdict(joined: Mapping[str, _Losses], champion: Variant, challenger: Variant, target: str, wrong: tuple[int, int] | None) -> Verdict:
    a, b = joined[champion.model], joined[challenger.model]
    found = (
        _paired(a, b) if challenger.shadow else experiments.compare(experiments.arm(a.losses, a.units), experiments.arm(b.losses, b.units))
    )
    requests = len(b.losses) if challenger.shadow else len(a.losses) + len(b.losses)
    if wrong:
        share = challenger.weight / (champion.weight + challenger.weight)
        sentence = (
            f"No verdict: the requests were not split as planned. B ({challenger.model[:8]}) got {wrong[1]:,} of {sum(wrong):,} "
            f"({wrong[1] / sum(wrong):.1%} instead of {share:.0%}), so the two did not answer alike callers."
        )
        return Verdict(sentence, champion.model, challenger.model, None, found.better, found.low, found.high, requests, 0, True)
    sentence = _sentence(found, champion.model, challenger.model, target, requests)
    return Verdict(sentence, champion.model, challenger.model, found.winner, found.better, found.low, found.high, requests, found.more)


def _paired(a: _Losses, b: _Losses) -> Comparison:
    """A shadow answered the same requests: what both got wrong alike says nothing, and is taken out."""
    place = {name: index for index, name in enumerate(a.ids)}
    pairs = [(place[name], index) for index, name in enumerate(b.ids) if name in place]
    if len(pairs) < 2:
        return experiments.compare(Arm(0, 0.0, 0.0), Arm(0, 0.0, 0.0))
    mine, other = (np.array(one) for one in zip(*pairs, strict=True))
    x, y, units = a.losses[mine], b.losses[other], b.units[other]
    one, two, both = experiments.arm(x, units), experiments.arm(y, units), experiments.arm(x + y, units)
    return experiments.compare(one, two, covariance=(both.variance - one.variance - two.variance) / 2)


def _sentence(found: Comparison, a: str, b: str, target: str, requests: int) -> str:
    if found.winner is None:
        wait = f"about {_round(found.more):,} more requests with known outcomes"
        now = f" So far B ({b[:8]}) is at {_percent(found.better)} better than A ({a[:8]}), 95 % CI {_span(found.low, found.high)}."
        return f"No verdict yet: {wait}.{now if np.isfinite(found.low) and np.isfinite(found.high) else ''}"
    better, low, high = (found.better, found.low, found.high) if found.winner == "B" else _other_way(found)
    winner, loser = (f"B ({b[:8]})", f"A ({a[:8]})") if found.winner == "B" else (f"A ({a[:8]})", f"B ({b[:8]})")
    return (
        f"{winner} is better than {loser} by {_percent(better)} (95 % CI {_span(low, high)}) on {target}, "
        f"{requests:,} requests; safe to stop."
    )


def _other_way(found: Comparison) -> tuple[float, float, float]:
    """How much better A is than B, from how much better B is than A."""
    better, low, high = (1 - 1 / (1 - share) for share in (found.better, found.high, found.low))
    return better, low, high


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _round(count: int) -> int:
    """Two digits: it is a guess."""
    return int(float(f"{count:.2g}"))
