"""What the names of metrics tell."""

from __future__ import annotations


def rises(name: str) -> bool:
    """Whether a metric that a model logged gets larger as the model gets better, as far as its name tells."""
    return any(word in name.lower() for word in ("acc", "auc", "r2", "f1", "precision", "recall", "auroc"))
