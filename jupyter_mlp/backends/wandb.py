"""Weights & Biases as a mirror of a run: offline unless WANDB_MODE says online; our own records stay the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def logger(spec: Mapping[str, Any], folder: Path) -> Any:
    """Return a Lightning logger that writes the run below `folder`/wandb; `wandb sync` sends an offline one later."""
    from lightning.pytorch.loggers import WandbLogger

    offline = os.environ.get("WANDB_MODE", "offline") in ("offline", "dryrun")  # a key alone sends nothing away
    os.environ.setdefault("WANDB_SILENT", "true")
    config = {key: spec[key] for key in ("class_name", "settings", "max_epochs", "batch_size", "seed", "target")}
    config["data"] = spec["data"]["ref"]
    return WandbLogger(project="jupyter_mlp", name=spec["run"], id=spec["run"], save_dir=folder, offline=offline, config=config)
