"""Arguments of Lightning's Trainer that a run takes by their own names, and what says the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, nearest

# A test compares the two with Lightning's own.
NAMES = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "max_steps", "min_epochs", "min_steps"),
    *("max_time", "limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval", "check_val_every_n_epoch"),
    *("num_sanity_val_steps", "log_every_n_steps", "deterministic", "benchmark", "inference_mode", "detect_anomaly", "sync_batchnorm"),
    *("reload_dataloaders_every_n_epochs", "fast_dev_run"),
)
OURS = {
    **dict.fromkeys(("devices", "num_nodes"), "--gpus N"),
    "max_epochs": "--max-epochs N",
    "strategy": "--strategy NAME",
    "callbacks": "--callbacks VARIABLE",
    **dict.fromkeys(("accelerator", "plugins", "barebones", "profiler", "model_registry"), "it as it is: the run chooses it"),
    **dict.fromkeys(("limit_test_batches", "limit_predict_batches"), "%mlp_evaluate and %mlp_predict"),
    **dict.fromkeys(("logger", "default_root_dir"), "tracker in the settings, and %mlp_runs"),
    **dict.fromkeys(("enable_checkpointing", "enable_autolog_hparams"), "--checkpoint-every STEPS|TIME"),
    **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), "the run's own line"),
    "use_distributed_sampler": "--gpus N: every process gets its own rows",
}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a Trainer is given.

    Raises:
        InvalidInputError: it takes no such argument, or something else decides it; the hint says what.
    """
    for name in given:
        if name in OURS:
            raise InvalidInputError(f"The Trainer's {name} is not given this way.", f"Use {OURS[name]}.")
        if name not in NAMES:
            raise InvalidInputError(f"Lightning's Trainer takes no {name}.", nearest(name, NAMES) or "Leave it out.")
    return {name: travels(name, value) for name, value in given.items()}


def travels(name: str, value: Any) -> Any:
    """Return a setting that a job can be told.

    Raises:
        InvalidInputError: it is no number, text or list of them.
    """
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InvalidInputError(
            f"The setting {name} is a {type(value).__name__}, which cannot travel to the job.",
            "Give a number, a text, or a list of them.",
        )
    return value
