"""A checkpoint of so many ranks becomes one of another number: what each rank had of its own is shared out anew.

place in the epoch    the rows that nobody had taken yet, in equal parts (store/shares.py)
sums of self.log      so that what the ranks make of them together stays the same
metrics               the same, by the reductions that they name
gradients             the mean, which is what the ranks would have made of them
random generators     that of a rank; a new rank begins as they all do, as another one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torchmetrics
from torchmetrics.utilities.data import dim_zero_cat, dim_zero_max, dim_zero_mean, dim_zero_min, dim_zero_sum

from jupyter_mlp.store.shares import Share

if TYPE_CHECKING:
    from jupyter_mlp.backends.lightning_resuming import Positioned

_NEUTRAL = {"max": float("-inf"), "amax": float("-inf"), "min": float("inf"), "amin": float("inf")}  # of the others: 0


def regrouped(
    found: Mapping[str, Any], world: int, loader: Positioned | None, metrics: Mapping[str, torchmetrics.Metric]
) -> dict[str, Any]:
    """Return our part of a checkpoint for `world` ranks.

    Args:
        loader: the batches of one of them; None for those of the user's own code, of which a checkpoint is between epochs.
        metrics: those of the model, which say how theirs are put together.
    """
    old = len(found["random"])
    made = {
        **found,
        "random": [found["random"][rank % old] for rank in range(world)],
        "sums": [_sums(found["sums"], rank, world) for rank in range(world)],
        "metrics": [_metrics(found["metrics"], rank, world, metrics) for rank in range(world)],
        "gradients": [_gradients(found["gradients"])] * world,
    }
    if loader is not None and found["batch"] > 0:
        share = Share.from_dict(found["share"]).continued(loader.total, found["batch"], loader.regular)
        made |= {"batch": share.first, "share": share.to_dict()}
    elif loader is not None:
        made["share"] = loader.regular.to_dict()
    return made


def _sums(ranks: Sequence[Mapping[str, Any]], rank: int, world: int) -> dict[str, Any]:
    names = dict.fromkeys(name for one in ranks for name in one)
    return {name: _sum([one.get(name) for one in ranks], rank, world) for name in names}


def _sum(ranks: Sequence[Any], rank: int, world: int) -> dict[str, Any]:
    known = [one for one in ranks if one is not None]
    sync = known[0]["sync"] if len(ranks) > 1 else [None, known[0]["sync"][1]]  # one process puts nothing together, whatever it is told
    if len(ranks) > 1 and not known[0]["sync"][0]:  # each rank has its own
        return dict(known[rank % len(known)])
    how = known[0]["reduce"][0]
    mine = [one["states"] for one in ranks[rank::world] if one is not None]
    if not mine:
        empty = {name: torch.full_like(value, 0 if name != "value" else _NEUTRAL.get(how, 0)) for name, value in known[0]["states"].items()}
        return {**known[0], "sync": sync, "states": empty}
    together = {"max": torch.amax, "amax": torch.amax, "min": torch.amin, "amin": torch.amin}.get(how, torch.sum)
    return {**known[0], "sync": sync, "states": {name: together(torch.stack([one[name] for one in mine]), 0) for name in mine[0]}}


def _metrics(ranks: Sequence[Mapping[str, Any]], rank: int, world: int, known: Mapping[str, torchmetrics.Metric]) -> dict[str, Any]:
    mine = ranks[rank::world]
    return {name: _metric(metric, [one[name] for one in mine if name in one]) for name, metric in known.items()}


def _metric(metric: torchmetrics.Metric, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not parts:
        empty = {name: [] if isinstance(value, list) else value.clone() for name, value in metric._defaults.items()}
        return {"updates": 0, "states": empty}
    updates = [int(one["updates"]) for one in parts]
    states = {name: _together(metric._reductions[name], [one["states"][name] for one in parts], updates) for name in metric._defaults}
    return {"updates": sum(updates), "states": states}


def _together(reduce: Any, values: Sequence[Any], updates: Sequence[int]) -> Any:
    if isinstance(values[0], list):
        return [one for value in values for one in value]
    if reduce is dim_zero_cat:
        return torch.cat(list(values))
    stacked = torch.stack(list(values))
    if reduce is dim_zero_mean:
        weights = torch.tensor(updates, dtype=stacked.dtype).reshape(-1, *[1] * (stacked.dim() - 1))
        return (stacked * weights).sum(0) / max(sum(updates), 1)
    plain = {dim_zero_sum: torch.sum, dim_zero_max: torch.amax, dim_zero_min: torch.amin}.get(reduce)
    if plain is not None:
        return plain(stacked, 0)
    return reduce(stacked) if callable(reduce) else values[0]


def _gradients(ranks: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    known = [one for one in ranks if one]
    if len(known) == 1:  # also of a model in parts: that of the part
        return dict(known[0])
    return {name: torch.stack([one[name] for one in known]).mean(0) for name in known[0]} if known else {}
