"""The standard pictures, each as a Vega-Lite specification and as PNG: data in, Figure out, no files and no global state."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jupyter_mlp.core.cards import Figure
from jupyter_mlp.core.identity import plain

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_COLOUR, _OTHER = "#4c78a8", "#e45756"


def histogram(title: str, counts: Sequence[float], edges: Sequence[float], x: str, alt: str = "") -> Figure:
    """Bars between edges."""
    values = [{"from": edges[i], "to": edges[i + 1], "count": counts[i]} for i in range(len(counts))]
    spec = {
        "mark": {"type": "bar", "color": _COLOUR, "tooltip": True},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": x, "bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": {"field": "count", "type": "quantitative", "title": "rows"},
        },
    }

    def draw(axes: Any) -> None:
        axes.stairs(counts, edges, fill=True, color=_COLOUR)
        axes.set(xlabel=x, ylabel="rows")

    return _figure(title, values, spec, draw, alt)


def against(title: str, observed: np.ndarray, predicted: np.ndarray, x: str, y: str, alt: str = "") -> Figure:
    """Predicted against observed as a density of squares, with the line where they are equal."""
    low, high = np.percentile(np.concatenate([observed, predicted]), [0.5, 99.5])
    high = high if high > low else low + 1
    grid, columns, rows = np.histogram2d(observed, predicted, bins=40, range=[[low, high], [low, high]])
    values = [
        {"x": columns[i], "x2": columns[i + 1], "y": rows[j], "y2": rows[j + 1], "rows": grid[i, j]}
        for i, j in zip(*np.nonzero(grid), strict=True)
    ]
    squares = {
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x, "scale": {"domain": [low, high]}},
            "x2": {"field": "x2"},
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"domain": [low, high]}},
            "y2": {"field": "y2"},
            "color": {"field": "rows", "type": "quantitative", "scale": {"type": "log", "scheme": "blues"}},
        },
    }

    def draw(axes: Any) -> None:
        from matplotlib.colors import LogNorm

        axes.pcolormesh(columns, rows, np.ma.masked_equal(grid.T, 0), norm=LogNorm(vmin=1, vmax=max(2.0, grid.max())), cmap="Blues")
        axes.plot([low, high], [low, high], color=_OTHER, linewidth=1)
        axes.set(xlabel=x, ylabel=y)

    return _figure(title, values, {"layer": [squares, _diagonal(low, high)]}, draw, alt)


def curve(
    title: str, points: Sequence[tuple[float, float]], x: str, y: str, diagonal: bool = False, dots: bool = False, alt: str = ""
) -> Figure:
    """A line through points, optionally with the diagonal it is compared to."""
    values = [{"x": a, "y": b} for a, b in points]
    line = {
        "mark": {"type": "line", "color": _COLOUR, "point": dots, "tooltip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x},
            "y": {"field": "y", "type": "quantitative", "title": y},
            "order": {"field": "x", "type": "quantitative"},
        },
    }

    def draw(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_OTHER, linewidth=1)
        axes.plot([p[0] for p in points], [p[1] for p in points], color=_COLOUR, marker="o" if dots else None)
        axes.set(xlabel=x, ylabel=y)

    return _figure(title, values, {"layer": [line, _diagonal(0, 1)]} if diagonal else line, draw, alt)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, alt: str = "") -> Figure:
    """One line per name through its points (x, y)."""
    values = [{"x": a, "series": name, "y": b} for name, points in series.items() for a, b in points]
    spec = {
        "mark": {"type": "line", "point": True, "tooltip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": x},
            "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"zero": False}},
            "color": {"field": "series", "type": "nominal", "title": None},
        },
    }

    def draw(axes: Any) -> None:
        for name, points in series.items():
            axes.plot([p[0] for p in points], [p[1] for p in points], marker=".", label=name)
        axes.set(xlabel=x, ylabel=y)
        axes.legend(fontsize=7)

    return _figure(title, values, spec, draw, alt or ", ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in series.items()))


def over_time(title: str, series: Sequence[tuple[str, str, float]], y: str, alt: str = "") -> Figure:
    """Lines over time; `series` holds (ISO time, name of the line, value)."""
    values = [{"time": when, "series": name, "value": value} for when, name, value in series]
    spec = {
        "mark": {"type": "line", "point": True, "tooltip": True},
        "encoding": {
            "x": {"field": "time", "type": "temporal", "title": None},
            "y": {"field": "value", "type": "quantitative", "title": y},
            "color": {"field": "series", "type": "nominal", "title": None},
        },
    }

    def draw(axes: Any) -> None:
        from datetime import datetime

        for name in sorted({row[1] for row in series}):
            mine = [(datetime.fromisoformat(when), value) for when, one, value in series if one == name]
            axes.plot([m[0] for m in mine], [m[1] for m in mine], marker=".", label=name)
        axes.set(ylabel=y)
        axes.tick_params(axis="x", rotation=30)
        if series:
            axes.legend(fontsize=7)

    return _figure(title, values, spec, draw, alt)


def bars(title: str, named: Sequence[tuple[str, float]], x: str, mark: float | None = None, alt: str = "") -> Figure:
    """One horizontal bar per name, optionally with a line at `mark`."""
    values = [{"name": name, "value": value} for name, value in named]
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "color": _COLOUR, "tooltip": True},
            "encoding": {
                "x": {"field": "value", "type": "quantitative", "title": x},
                "y": {"field": "name", "type": "nominal", "title": None, "sort": "-x"},
            },
        }
    ]
    if mark is not None:
        layers.append({"mark": {"type": "rule", "color": _OTHER}, "encoding": {"x": {"datum": mark}}})

    def draw(axes: Any) -> None:
        shown = sorted(named, key=lambda pair: pair[1])
        axes.barh([name for name, _ in shown], [value for _, value in shown], color=_COLOUR)
        if mark is not None:
            axes.axvline(mark, color=_OTHER, linewidth=1)
        axes.set(xlabel=x)

    return _figure(title, values, {"layer": layers}, draw, alt)


def confusion(title: str, counts: np.ndarray, labels: Sequence[str], alt: str = "", x: str = "said", y: str = "observed") -> Figure:
    """Observed class by said class, as counts."""
    values = [{y: a, x: b, "rows": counts[i, j]} for i, a in enumerate(labels) for j, b in enumerate(labels)]
    where = {"x": {"field": x, "type": "nominal"}, "y": {"field": y, "type": "nominal"}}
    squares = {
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {**where, "color": {"field": "rows", "type": "quantitative", "scale": {"scheme": "blues"}}},
    }
    numbers = {"mark": "text", "encoding": {**where, "text": {"field": "rows", "type": "quantitative", "format": ",.0f"}}}

    def draw(axes: Any) -> None:
        axes.imshow(counts, cmap="Blues")
        axes.set(xlabel=x, ylabel=y)
        axes.set_xticks(range(len(labels)), labels, rotation=45)
        axes.set_yticks(range(len(labels)), labels)
        if len(labels) <= 12:
            for i, j in np.ndindex(counts.shape):
                axes.text(j, i, f"{counts[i, j]:,.0f}", ha="center", va="center", fontsize=7)

    return _figure(title, values, {"layer": [squares, numbers]}, draw, alt)


def _diagonal(low: float, high: float) -> dict[str, Any]:
    ends = [{"a": low, "b": low}, {"a": high, "b": high}]
    return {
        "data": {"values": plain(ends)},
        "mark": {"type": "line", "color": _OTHER, "strokeWidth": 1},
        "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b", "type": "quantitative"}},
    }


def _figure(title: str, values: list[dict[str, Any]], spec: dict[str, Any], draw: Callable[[Any], None], alt: str) -> Figure:
    whole = {"$schema": _SCHEMA, "title": title, "width": 320, "height": 220, "data": {"values": plain(values)}, **plain(spec)}
    return Figure(title, whole, _png(title, draw), alt or title)


def _png(title: str, draw: Callable[[Any], None]) -> bytes | None:
    """Draw without pyplot, whose global state would meddle with the user's own figures."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return None  # the Vega-Lite form and the sentence remain
    canvas = Canvas(figsize=(4.4, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    axes.set_title(title, fontsize=10)
    draw(axes)
    held = io.BytesIO()
    canvas.savefig(held, format="png")
    return held.getvalue()
