"""What the names of metrics tell, and what people call them."""

from __future__ import annotations

LABELS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "median_ae": "median AE",
    "smape": "sMAPE (%)",
    "mase": "MASE",
    "auc": "AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}


def label(name: str) -> str:
    """What people call a metric."""
    return LABELS.get(name, name.upper())


def long(name: str) -> str:
    """What a metric is called in a sentence."""
    return "mean absolute error" if name == "mae" else label(name)


def percent_points(name: str) -> bool:
    """Whether a metric is a share, whose differences are told in percentage points."""
    return name == "accuracy"


def rises(name: str) -> bool:
    """Whether a metric that a model logged gets larger as the model gets better, as far as its name tells."""
    return any(word in name.lower() for word in ("acc", "auc", "r2", "f1", "precision", "recall", "auroc"))
