"""Does a cell show again what it showed? One verdict for the outputs of two runs of the same cell.

identical         the same bytes, addresses and progress bars aside
equal             the same but for numbers that agree within the tolerance
different         anything else that was shown
not comparable    nothing of it can be the same twice (a clock, an endpoint's latency), or one side shows nothing
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IDENTICAL, EQUAL, DIFFERENT, NOT_COMPARABLE = "identical", "equal", "different", "not comparable"
RELATIVE = 1e-6  # of a number in text; float32 sums on other hardware differ by about this much

OURS = "application/vnd.jupyter-mlp+json"
PROGRESS = "application/vnd.jupyter-mlp.progress+json"

# What of our own objects must be the same again; the rest is when, where and how fast. None: nothing of it can be.
_ESSENCE: dict[str, tuple[str, ...] | None] = {
    "table": ("rows", "columns", "content"),
    "dataset": ("rows", "columns", "content", "inputs"),
    "run": ("name", "state", "inputs", "parameters", "metrics"),
    "recipe": ("name", "text", "data", "rows", "width", "learned"),
    "evaluation": ("data", "task", "rows", "metrics", "intervals", "baseline", "slices"),
    "paired evaluation": ("data", "task", "rows", "differences", "test", "slices"),
    "explanation": ("data", "target", "effects", "usual", "rows"),
    "endpoint": ("name",),
    "answers": ("predictions", "rows"),
    "pipeline": ("steps", "links", "parameters"),
    "report": None,
    "snapshot": None,
    "verification": None,
    "status": None,
    "graph": None,
    "diagnosis": None,
    "pipeline run": ("state", "parameters"),
}
_MADE = ("table", "dataset", "recipe")
_JSON = re.compile(r"application/(?:geo\+)?json|application/vnd\.(?:vega|vegalite|plotly)\.v[\d.]+\+json")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# what %time, %%time and %timeit say: how fast it was is no result
_TIMING = re.compile(
    r"^(?:(?:CPU times|Wall time|Compiler|Parser) ?: .*"
    r"|(?:The slowest run took .+\n)?.+ (?:±|\+-) .+ per loop \(mean (?:±|\+-) std\. dev\. of .+\))$",
    re.MULTILINE,
)
_ABOUT = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_ID, _NAMED = re.compile(r'\bid="([^"]+)"'), re.compile(r'(\bid="|#)([\w.:-]+)')
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORSE = (IDENTICAL, NOT_COMPARABLE, EQUAL, DIFFERENT)


@dataclass(frozen=True)
class Comparison:
    """A verdict, and for a difference what it is."""

    verdict: str
    detail: str = ""


def outputs(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Comparison:
    """Return the verdict on two lists of nbformat outputs."""
    one, other = _shown(before), _shown(after)
    if not one and not other:
        return Comparison(IDENTICAL)
    if len(one) != len(other):
        return Comparison(DIFFERENT, f"{len(one)} outputs before, {len(other)} now")
    found = [_pair(a, b) for a, b in zip(one, other, strict=True)]
    return max(found, key=lambda comparison: _WORSE.index(comparison.verdict))


def same_things(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the exact references of things that were made again and are the same, each with the one it had before."""
    pairs = zip(_shown(before), _shown(after), strict=False)
    shown = [(a["data"][OURS], b["data"][OURS]) for a, b in pairs if OURS in a.get("data", {}) and OURS in b.get("data", {})]
    told = [(a, b) for a, b in shown if a.get("kind") in _MADE and a.get("content", a.get("text"))]  # of too large ones it is not known
    same = [(a, b) for a, b in told if _ours(a, b).verdict in (IDENTICAL, EQUAL)]
    return {str(b["ref"]): str(a["ref"]) for a, b in same if a.get("ref") and b.get("ref") and a["ref"] != b["ref"]}


def _shown(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Outputs that say something about the result: streams joined, progress and standard error left out."""
    found: list[dict[str, Any]] = []
    for output in given:
        kind = output["output_type"]
        if kind == "stream":
            if output["name"] == "stderr":
                continue  # warnings and logs: they name files, lines and times
            text = _joined(output["text"])
            if found and found[-1]["output_type"] == "stream":
                found[-1]["text"] += text
            else:
                found.append({"output_type": "stream", "text": text})
        elif kind == "error":
            found.append({"output_type": "error", "ename": output["ename"], "evalue": output["evalue"]})
        elif PROGRESS not in output["data"]:
            found.append({"output_type": "data", "data": dict(output["data"])})
    return [one for one in found if one.get("text", "x").strip()]


def _pair(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    if before["output_type"] != after["output_type"]:
        return Comparison(DIFFERENT, f"{before['output_type']} before, {after['output_type']} now")
    if before["output_type"] == "stream":
        return texts(before["text"], after["text"])
    if before["output_type"] == "error":
        return texts(f"{before['ename']}: {before['evalue']}", f"{after['ename']}: {after['evalue']}")
    return _data(before["data"], after["data"])


def _data(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare the richest form that both sides have."""
    if OURS in before and OURS in after:
        return _ours(before[OURS], after[OURS])
    values = next((one for one in before if one in after and _JSON.fullmatch(one)), None)
    if values is not None:
        return _values(before[values], after[values])
    for kind in ("image/png", "image/svg+xml", "text/html", "text/latex", "text/markdown", "text/plain"):
        if kind in before and kind in after:
            one, other = _joined(before[kind]), _joined(after[kind])
            if kind == "image/svg+xml":
                one, other = _drawing(one), _drawing(other)
            return _pictures(one, other) if kind == "image/png" else texts(one, other)
    both = sorted(set(before) & set(after))
    if both:
        same = all(_canonical(before[kind]) == _canonical(after[kind]) for kind in both)
        return Comparison(IDENTICAL) if same else Comparison(NOT_COMPARABLE, f"{both[0]} is not compared")
    return Comparison(DIFFERENT, "another kind of output")


def _ours(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    kind = before.get("kind")
    if kind != after.get("kind"):
        return Comparison(DIFFERENT, f"{kind} before, {after.get('kind')} now")
    names = _ESSENCE.get(str(kind), ())
    if names is None:
        return Comparison(NOT_COMPARABLE, f"a {kind} tells of its own time")
    found = [(name, _values(before.get(name), after.get(name))) for name in names]
    if not found:
        return _values(before, after)
    name, worst = max(found, key=lambda pair: _WORSE.index(pair[1].verdict))
    return worst if worst.verdict != DIFFERENT else Comparison(DIFFERENT, f"{name}: {worst.detail}")


def _values(before: Any, after: Any) -> Comparison:
    """Compare JSON values, numbers within the tolerance."""
    if before == after:
        return Comparison(IDENTICAL)
    if _is_number(before) and _is_number(after):
        close = math.isclose(before, after, rel_tol=RELATIVE, abs_tol=1e-12)
        return Comparison(EQUAL) if close else Comparison(DIFFERENT, f"{before:.6g} before, {after:.6g} now")
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        return _worst(_values(before[key], after[key]) for key in before)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return _worst(_values(a, b) for a, b in zip(before, after, strict=True))
    return Comparison(DIFFERENT, f"{_clip(before)} before, {_clip(after)} now")


def texts(before: str, after: str) -> Comparison:
    """Compare texts: addresses and colours aside, numbers within the tolerance."""
    one, other = _plain(before), _plain(after)
    if one == other:
        return Comparison(IDENTICAL)
    if _NUMBER.sub("#", one) == _NUMBER.sub("#", other):
        pairs = list(zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True))
        if all(math.isclose(_float(a), _float(b), rel_tol=RELATIVE, abs_tol=1e-12) for a, b in pairs):
            return Comparison(EQUAL)
    for a, b in zip(one.splitlines(), other.splitlines(), strict=False):
        if a != b:
            return Comparison(DIFFERENT, f"{_clip(a)} before, {_clip(b)} now")
    return Comparison(DIFFERENT, f"{len(one.splitlines())} lines before, {len(other.splitlines())} now")


def _pictures(before: str, after: str) -> Comparison:
    """PNG pictures are the same when their pixels are: the file also carries who wrote it."""
    if before.strip() == after.strip():
        return Comparison(IDENTICAL)
    one, other = _pixels(before), _pixels(after)
    if one is None or other is None:
        return Comparison(NOT_COMPARABLE, "a picture that cannot be decoded")
    if one[0] != other[0]:
        return Comparison(DIFFERENT, f"a picture of {one[0]} before, {other[0]} now")
    return Comparison(IDENTICAL) if one[1] == other[1] else Comparison(DIFFERENT, "another picture")


def _drawing(svg: str) -> str:
    """An SVG without what says who wrote it and when; its ids, which matplotlib draws at random, by their order."""
    svg = _ABOUT.sub("", svg)
    names = {name: f"id{at}" for at, name in enumerate(dict.fromkeys(_ID.findall(svg)))}
    return _NAMED.sub(lambda found: found[1] + names.get(found[2], found[2]), svg)


def _pixels(png: str) -> tuple[tuple[int, int], bytes] | None:
    import io

    try:
        from PIL import Image

        with Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]) as picture:
            return picture.size, picture.convert("RGBA").tobytes()
    except (ImportError, OSError, ValueError):
        return None


def _worst(found: Any) -> Comparison:
    return max(found, key=lambda comparison: _WORSE.index(comparison.verdict), default=Comparison(IDENTICAL))


def _plain(text: str) -> str:
    return _TIMING.sub("a timing", _ANSI.sub("", _ADDRESS.sub("0x...", text)).replace("\r\n", "\n")).strip()


def _joined(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else value if isinstance(value, str) else _canonical(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(text: str) -> float:
    return float(text.replace(",", "") or 0)


def _clip(value: Any, limit: int = 60) -> str:
    text = value if isinstance(value, str) else _canonical(value)
    return text.strip() if len(text.strip()) <= limit else text.strip()[:limit] + "..."
