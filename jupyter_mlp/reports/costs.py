"""What the ways to serve a model cost, as a table and a picture: all that were measured, also where none was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyter_mlp.core import frontier
from jupyter_mlp.core.cards import Figure, Table
from jupyter_mlp.reports import charts


def table(proof: Mapping[str, Any]) -> Table:
    """Return the points as a table, those of the frontier marked."""
    rows = [
        [
            point["name"], point["p50_ms"], point["p99_ms"], point["rate"], point["metric"], frontier.percent(point["loss_high"]),
            "chosen" if point["name"] == proof.get("chosen") else "frontier" if point["name"] in proof["frontier"] else "",
        ]
        for point in proof["points"]
    ]  # fmt: skip
    caption = f"measured on {proof['rows']:,} rows of {proof['data']}, {proof['callers']} callers without pause"
    return Table(["way to serve", "p50 ms", "p99 ms", "answers / s", proof["metric"], "loss, at most", ""], rows, caption)


def figure(proof: Mapping[str, Any]) -> Figure:
    """Return the frontier as a picture."""
    points = {point["name"]: point for point in proof["points"]}
    drawn = [(points[name]["p99_ms"], 100 * points[name]["loss_high"]) for name in proof["frontier"]]
    at = points[proof.get("chosen") or proof["frontier"][0]]
    word = "chosen" if "chosen" in proof else "none chosen; the fastest"
    alt = f"{word}: {at['name']}, p99 {at['p99_ms']:.3g} ms, loss at most {frontier.percent(at['loss_high'])}"
    return charts.curve("Accuracy against cost", drawn, "p99 (ms)", f"loss of {proof['metric']} (%)", dots=True, alt=alt)
