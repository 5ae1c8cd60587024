"""Canonical models, trained by name: `%mlp_train mlp:tabular --data trips --target arr_delay`. One file each, made to be read.

    mlp:linear       columns to one number or a class, by weights that can be read
    mlp:tabular      the default for tables: an MLP, embeddings for columns of many values
    mlp:transformer  tables whose columns matter in combination, and rows enough to learn that
    mlp:two_tower    who likes what: a user's and an item's side meet in one product
    mlp:cnn          pictures (recipe step `image`), or columns that are pixels
    mlp:sequence     columns that are steps in time, or words (recipe step `tokens`)

Each takes regression, binary and multiclass targets, exports to ONNX, and is served like a model of one's own.
"""

from __future__ import annotations

from pathlib import Path

from jupyter_mlp.core.errors import NotFoundError, nearest
from jupyter_mlp.core.identity import digest

_CLASSES = {
    "linear": "Linear",
    "logistic": "Linear",
    "tabular": "Tabular",
    "transformer": "TabularTransformer",
    "two_tower": "TwoTower",
    "cnn": "CNN",
    "sequence": "Sequence",
}


def names() -> list[str]:
    """Return the names that `%mlp_train mlp:NAME` knows."""
    return sorted(_CLASSES)


def source_of(name: str) -> str:
    """Return a model as FILE.py:CLASS.

    Raises:
        NotFoundError: there is no model of that name; the hint names the nearest.
    """
    if name not in _CLASSES:
        raise NotFoundError(f"There is no model mlp:{name}.", nearest(name, names()))
    file = "linear" if name == "logistic" else name
    return f"{Path(__file__).parent / file}.py:{_CLASSES[name]}"


def version() -> str:
    """Return the identity of what all of them build on."""
    return digest(Path(__file__).with_name("supervised.py").read_text(encoding="utf-8"))
