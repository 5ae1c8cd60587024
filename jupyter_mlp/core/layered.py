"""A small layered drawing of a graph, as text and as SVG; labels are escaped, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Link = tuple[str, str, str]  # (from, to, label)

_COLOURS = {
    "file": "#8a8a8a",
    "table": "#4878a8",
    "dataset": "#3a8f6b",
    "run": "#b07c1f",
    "model": "#b0561f",
    "evaluation": "#8a5aa8",
    "explanation": "#8a5aa8",
    "endpoint": "#a83a55",
    "report": "#8a5aa8",
    "snapshot": "#55606b",
}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 190, 26, 60, 12


def layers(links: Sequence[Link]) -> list[list[str]]:
    """Return the nodes in columns: every node right of all it comes from; cycles are cut where they are met."""
    nodes = list(dict.fromkeys(node for link in links for node in link[:2]))
    before: dict[str, list[str]] = {node: [] for node in nodes}
    for start, end, _ in links:
        before[end].append(start)
    depth: dict[str, int] = {}

    def level(node: str, path: frozenset[str]) -> int:
        if node not in depth:
            depth[node] = 1 + max((level(b, path | {node}) for b in before[node] if b not in path and b != node), default=-1)
        return depth[node]

    for node in nodes:
        level(node, frozenset())
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        columns[depth[node]].append(node)
    return columns


def reduced(links: Sequence[Link]) -> list[Link]:
    """Return the links without those that a longer way says too (a -> c where there is a -> b -> c)."""
    after: dict[str, set[str]] = {}
    for start, end, _ in links:
        after.setdefault(start, set()).add(end)

    def reaches(start: str, goal: str) -> bool:
        seen, waiting = {start}, [node for node in after.get(start, ()) if node != goal]
        while waiting:
            node = waiting.pop()
            if node == goal:
                return True
            if node not in seen:
                seen.add(node)
                waiting += after.get(node, ())
        return False

    return [link for link in links if not reaches(link[0], link[1])]


def as_text(links: Sequence[Link]) -> str:
    """Return one line a node with what it was made from."""
    lines = []
    for column in layers(links):
        for node in column:
            sources = [f"{start} ({label})" if label else start for start, end, label in links if end == node]
            lines.append(f"{node}" + (f"  <-  {', '.join(sources)}" if sources else ""))
    return "\n".join(lines)


def as_svg(links: Sequence[Link]) -> str:
    """Return the drawing as SVG, left to right."""
    columns = _ordered(layers(links), links)
    place = {
        node: (20 + x * (_WIDTH + _GAP_X), 20 + y * (_HEIGHT + _GAP_Y)) for x, column in enumerate(columns) for y, node in enumerate(column)
    }
    width = 40 + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = 40 + max((len(column) for column in columns), default=0) * (_HEIGHT + _GAP_Y)
    arrows = "".join(_arrow(place[start], place[end]) for start, end, _ in links if start != end)
    boxes = "".join(_box(node, *xy) for node, xy in place.items())
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' style='max-width:none' "
        f"font-family='system-ui,sans-serif' font-size='12' role='img'>{arrows}{boxes}</svg>"
    )


def _ordered(columns: list[list[str]], links: Sequence[Link]) -> list[list[str]]:
    """Put nodes near what they come from, so that fewer lines cross."""
    row: dict[str, float] = {}
    for column in columns:
        for index, node in enumerate(column):
            sources = [row[start] for start, end, _ in links if end == node and start in row]
            row[node] = sum(sources) / len(sources) if sources else float(index)
        column.sort(key=lambda node: row[node])
        row.update({node: float(index) for index, node in enumerate(column)})
    return columns


def _box(node: str, x: int, y: int) -> str:
    colour = _COLOURS.get(node.split(":")[0], "#55606b")
    label = node if len(node) <= 28 else node[:27] + "…"
    size = f"width='{_WIDTH}' height='{_HEIGHT}' rx='4'"
    return (
        f"<g><title>{escape(node)}</title><rect x='{x}' y='{y}' {size} style='fill:var(--jp-layout-color0,#fff)'/>"
        f"<rect x='{x}' y='{y}' {size} fill='{colour}' fill-opacity='.14' stroke='{colour}'/>"
        f"<text x='{x + 8}' y='{y + 17}' fill='currentColor'>{escape(label)}</text></g>"
    )


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = max(24, abs(x2 - x1) // 2)
    return f"<path d='M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}' fill='none' stroke='#999' stroke-width='1.2'/>"
