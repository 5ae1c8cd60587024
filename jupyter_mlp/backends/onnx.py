"""ONNX: the trained network as a graph that serves without its author's code, checked against the original."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

_RELATIVE, _ABSOLUTE = 1e-3, 1e-4  # of the largest output: float32 sums in another order


def export(model: torch.nn.Module, features: torch.Tensor, path: Path) -> dict[str, Any]:
    """Write `forward` as a graph from features [rows, width] to its raw outputs, rows being free.

    Args:
        features: some rows, on which graph and original must agree.

    Returns:
        {"kind": "onnx", "error": largest difference}, or {"kind": "source", "why": ...} where it cannot be exported:
        such a model is served from its own code, in a process of its own.
    """
    try:
        with torch.no_grad():
            expected = model(features).float().numpy()
    except Exception as error:  # noqa: BLE001 - the author's code
        return {"kind": "source", "why": f"forward() does not take the features: {_first_line(error)}"}
    try:
        _write(model, features, path)
    except Exception as error:  # noqa: BLE001 - exporters raise what they like for code they cannot follow
        path.unlink(missing_ok=True)
        return {"kind": "source", "why": f"the exporter cannot follow it: {_first_line(error)}"}
    difference, why = _difference(path, features.numpy(), expected)
    if why:
        path.unlink(missing_ok=True)
        return {"kind": "source", "why": why}
    return {"kind": "onnx", "error": difference}


def _write(model: torch.nn.Module, features: torch.Tensor, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    two = features[:2] if len(features) > 1 else features.repeat(2, 1)  # one row would be taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Forward(model),
            (two,),
            path,
            input_names=["features"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


class _Forward(torch.nn.Module):
    """Only the forward pass: a LightningModule also carries its trainer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> Any:
        return self.model(features)


def _difference(path: Path, features: np.ndarray, expected: np.ndarray) -> tuple[float, str]:
    try:
        import onnxruntime
    except ImportError:
        return 0.0, "onnxruntime is not installed, so the graph could not be checked"
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"features": features})[0]
    if found.shape != expected.shape:
        return 0.0, f"the graph gives {list(found.shape)} where the model gives {list(expected.shape)}"
    largest = float(np.abs(found - expected).max()) if found.size else 0.0
    if not largest <= _ABSOLUTE + _RELATIVE * float(np.abs(expected).max(initial=0.0)):
        return 0.0, f"the graph's answers differ from the model's by up to {largest:.3g}"
    return largest, ""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"
