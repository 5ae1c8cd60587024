"""Accuracy against cost for one model: every way to serve it measured on real rows, and the one within the limits registered."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import frontier
from jupyter_mlp.core.errors import InvalidInputError, MLPError, storage_error
from jupyter_mlp.core.frontier import Limits, Point
from jupyter_mlp.serving import candidates, costs
from jupyter_mlp.store import held_out, registry
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 20_000  # of the metric


class NoWayError(InvalidInputError):
    """No way to serve a model keeps to the limits; `proof` has all that were measured."""

    proof: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Tuned:
    """What was chosen, with its proof.

    Attributes:
        model: the one to serve: the original, or a new one made of it, which has files but no record yet.
        proof: limits, all points, which was chosen, and what they were measured on, as JSON types.
    """

    model: Model
    proof: Mapping[str, Any]


def tune(
    workspace: Workspace,
    model: Model,
    limits: Limits,
    data: DatasetVersion | None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Tuned:
    """Return the way to serve a model within the limits; a way of its own is registered as a model of its own.

    Args:
        data: rows to measure on; those that training held out when left out.

    Raises:
        NoWayError: no way keeps to the limits; the message has the nearest.
        StorageError: the models of all ways find no room beside one another.
    """
    try:
        return _tuned(workspace, model, limits, data, progress or (lambda told: None))
    except MLPError:
        raise
    except OSError as error:
        raise storage_error(error, "writing the ways to serve the model") from error


def _tuned(
    workspace: Workspace, model: Model, limits: Limits, data: DatasetVersion | None, progress: Callable[[dict[str, Any]], None]
) -> Tuned:
    measured_on, rows = held_out.rows(workspace, model, _ROWS) if data is None else held_out.all_of(model, data, _ROWS)
    with tempfile.TemporaryDirectory(prefix="mlp-tuning-") as folder:
        found = _measured(model, rows, Path(folder), progress)
        proof = {
            "of": model.ref, "data": str(measured_on), "rows": len(rows), "metric": found.metric, "callers": costs.CALLERS,
            "processors": os.cpu_count(), "limits": limits.to_dict(), "points": [point.to_dict() for point in found.points],
            "frontier": [point.name for point in frontier.frontier(found.points)],
        }  # fmt: skip
        chosen = frontier.choose(found.points, limits)
        if chosen is None:
            raise _refused(model, limits, frontier.nearest(found.points, limits), proof)
        proof["chosen"] = chosen.name
        if chosen is found.points[0]:
            return Tuned(model, proof)
        return Tuned(_registered(workspace, found.folders[chosen.name], proof), proof)


@dataclass(frozen=True)
class _Measured:
    """The points that were tried, and the model folder of each."""

    metric: str
    points: list[Point]
    folders: dict[str, Path]


def _measured(model: Model, rows: pa.Table, folder: Path, progress: Callable[[dict[str, Any]], None]) -> _Measured:
    losses = costs.Losses(model.folder, rows)
    ways = {candidates.name_of(way): way for way in candidates.ways(model)}
    folders = {name: candidates.make(model, way, folder / "models") for name, way in ways.items()}
    lost = _lost(model, ways, folders, losses)
    took: dict[str, list[costs.Times]] = {name: [] for name in ways}
    trial = costs.Trial(EndpointFolder(folder / "trial"), [folder / "models"], costs.examples(rows, model.recipe.columns))
    try:
        for number, (_, name) in enumerate(product(range(costs.ROUNDS), ways)):
            progress({"text": name, "share": number / (costs.ROUNDS * len(ways))})
            took[name].append(trial.times(folders[name].name))
    finally:
        trial.close()
    points = [Point(name, way, **costs.described(costs.Times.median(took[name]), lost[name])) for name, way in ways.items()]
    return _Measured(losses.name, points, folders)


def _lost(model: Model, ways: Mapping[str, Mapping[str, Any]], folders: Mapping[str, Path], losses: costs.Losses) -> dict[str, costs.Loss]:
    """What each way loses; threads and sharing change no answer, and the model's own way loses nothing."""
    own = next(iter(ways.values()))
    known = {(own["precision"], own["graph"]): losses.original}
    for name, way in ways.items():
        kind = way["precision"], way["graph"]
        if kind not in known:
            known[kind] = losses.of(folders[name])
    return {name: known[way["precision"], way["graph"]] for name, way in ways.items()}


def _registered(workspace: Workspace, folder: Path, proof: Mapping[str, Any]) -> Model:
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").unlink()
    made = workspace.models / registry.register(workspace, folder, {**card, "proof": proof})
    return Model(made, json.loads((made / "model.json").read_text(encoding="utf-8")))


def _refused(model: Model, limits: Limits, near: Point, proof: Mapping[str, Any]) -> NoWayError:
    said = f"p99 {near.p99_ms:.3g} ms, loss of {proof['metric']} at most {frontier.percent(near.loss_high)}"
    words = []
    if limits.p99_ms is not None:
        words.append(f"--max-p99 {max(limits.p99_ms, 1.1 * near.p99_ms):.3g}ms")  # a tenth of room: times vary
    if limits.loss is not None:
        words.append(f"--max-loss {100 * max(limits.loss, near.loss_high):.3g}%")
    refused = NoWayError(
        f"No way to serve {model.name} has a {limits}. The nearest of {len(proof['points'])}: {near.name}, {said}.",
        f"Write {' '.join(words)} to take it, or train a smaller model.",
    )
    refused.proof = proof
    return refused
