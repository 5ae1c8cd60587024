"""The ways to serve one exported model that are worth a look: precision, threads, graph optimisation, sharing of calls.

A way is what a model's card says under `runtime`, so each is a model of its own that any endpoint serves by its UUID. Half
precision is no way on a CPU: ONNX Runtime has few kernels for it there and converts to float32 around every other one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_mlp.store.artifacts import sha256_of
from jupyter_mlp.store.registry import Model

FLOAT, INT8 = "float32", "int8"
PLAIN: Mapping[str, Any] = {"precision": FLOAT, "threads": 1, "graph": "all", "share": True}


def ways(model: Model) -> list[dict[str, Any]]:
    """Return the ways to serve a model, the one it is registered with first, then the plainer ones first."""
    own = {**PLAIN, **model.card_data.get("runtime", {})}
    if model.card_data["export"]["kind"] != "onnx":
        return [own]
    many = min(4, os.cpu_count() or 1)
    found = [own, *([{**own, "threads": many}] if many > 1 else []), {**own, "share": False}, {**own, "graph": "basic"}]
    if own["precision"] == FLOAT and _quantises():
        found += [{**one, "precision": INT8} for one in found[:-1]]
    return found


def name_of(way: Mapping[str, Any]) -> str:
    """Return a way in words."""
    words = [way["precision"], f"{way['threads']} thread{'s' * (way['threads'] > 1)}"]
    return ", ".join([*words, *(["basic graph"] if way["graph"] != "all" else []), *([] if way["share"] else ["a call per request"])])


def make(model: Model, way: Mapping[str, Any], root: Path) -> Path:
    """Write the model as it is served in this way, below `root` under a UUID of its own; return its folder."""
    folder = root / str(uuid.uuid4())
    shutil.copytree(model.folder, folder)
    if way["precision"] == INT8 and {**PLAIN, **model.card_data.get("runtime", {})}["precision"] == FLOAT:
        _quantised(model.folder / "model.onnx", folder / "model.onnx")
    sums = {**model.card_data.get("sha256", {})}
    if (folder / "model.onnx").exists():
        sums["model.onnx"] = sha256_of(folder / "model.onnx")
    card = {**model.card_data, "uuid": folder.name, "runtime": dict(way), "derived_from": model.ref, "sha256": sums}
    (folder / "model.json").write_text(json.dumps(card, ensure_ascii=False, indent=1), encoding="utf-8")
    return folder


def _quantises() -> bool:
    try:
        import onnxruntime.quantization  # noqa: F401 - it needs onnx, which a machine that only serves may lack
    except ImportError:
        return False
    return True


def _quantised(graph: Path, target: Path) -> None:
    """Weights as int8, one scale a channel; activations are quantised as they come, so no data is needed to calibrate."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.unlink(missing_ok=True)
    with _quiet():
        quantize_dynamic(graph, target, weight_type=QuantType.QInt8, per_channel=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger to optimise the graph first; ONNX Runtime does as it loads it."""

    def no_advice(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    logging.getLogger().addFilter(no_advice)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(no_advice)
