"""Values of the notebook as source that makes them again, to the bit: numbers, texts, small arrays and tensors, and tuples of them.

What was drawn at random or computed from a live DataFrame arrives as it is here. Larger arrays are made again by their
statements. Neither NumPy nor PyTorch is imported for it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from typing import Any

LONGEST = 100_000  # characters
_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset)
_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
_SCALARS = (*_NUMBERS, "bool_", "str_")  # of NumPy
_KINDS = (*_NUMBERS, "bfloat16")  # of elements


def is_plain(value: Any) -> bool:
    """Whether a value is what its repr says."""
    if type(value) not in _PLAIN:
        return False
    text = repr(value)
    if len(text) > LONGEST:
        return False
    try:
        return bool(ast.literal_eval(text) == value)
    except (ValueError, SyntaxError):
        return False


def written(name: str, value: Any) -> str | None:
    """Return statements that give a name this very value; None where there are none, or they are too long."""
    if is_plain(value):
        return f"{name} = {value!r}"
    modules: set[str] = set()
    try:
        text = _text(value, modules)
    except RecursionError:  # it holds itself
        return None
    if text is None or len(text) > LONGEST:
        return None
    return "\n".join([*(f"import {module}" for module in sorted(modules)), f"{name} = {text}"])


def is_drawn(value: Any) -> bool:
    """Whether a value is an array or tensor: what makes one may draw it at random."""
    return type(value).__name__ in ("ndarray", "Tensor")


def _text(value: Any, modules: set[str]) -> str | None:
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return f"float({str(value)!r})"
    if kind in (list, tuple):
        parts = _all(value, modules)
        return None if parts is None else _sequence(kind, parts)
    if kind is dict:
        keys, values = _all(value.keys(), modules), _all(value.values(), modules)
        if keys is None or values is None:
            return None
        return "{" + ", ".join(f"{key}: {one}" for key, one in zip(keys, values, strict=True)) + "}"
    if is_plain(value):
        return repr(value)
    if kind.__module__ == "numpy" and kind.__name__ in _SCALARS:
        modules.add("numpy")
        return f"numpy.{type(value).__name__}({_text(value.item(), modules)})"
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _array(value, "numpy.array", f"{value.dtype.name!r}", value.dtype.name, value.size, modules)
    if kind.__module__ == "torch" and kind.__name__ == "Tensor" and _is_simple(value):
        return _array(value, "torch.tensor", str(value.dtype), str(value.dtype).removeprefix("torch."), value.numel(), modules)
    return None


def _all(values: Iterable[Any], modules: set[str]) -> list[str] | None:
    """Return the texts of all; None where one has none, or they grow too long: nothing large is written to its end."""
    parts, size = [], 0
    for one in values:
        part = _text(one, modules)
        size += len(part or "")
        if part is None or size > LONGEST:
            return None
        parts.append(part)
    return parts


def _array(value: Any, maker: str, dtype: str, element: str, size: int, modules: set[str]) -> str | None:
    if element not in _KINDS or size > LONGEST // 3:
        return None
    modules.add(maker.partition(".")[0])
    numbers = [str(_text(one, modules)) for one in value.reshape(-1).tolist()]
    return f"{maker}([{', '.join(numbers)}], dtype={dtype}).reshape({tuple(value.shape)!r})"


def _is_simple(tensor: Any) -> bool:
    """Whether a tensor is its numbers and nothing more."""
    return tensor.device.type == "cpu" and not tensor.requires_grad and str(tensor.layout) == "torch.strided"


def _sequence(kind: type, parts: list[str]) -> str:
    if kind is list:
        return f"[{', '.join(parts)}]"
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
