"""What `self.logger` of a model is in a job: it notes numbers in the run's own series, and takes every other call of a tutorial.

A mirror (Weights & Biases, or that of a plug-in) stands behind it and gets the calls that are its own. It is never needed,
so whatever fails in it is said once, and the training goes on without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
from lightning.pytorch.loggers.logger import Logger

from jupyter_mlp.store.jobs import RunFolder


class RunLogger(Logger):
    """Notes metrics of rank 0 in events.jsonl; files of Lightning's own, such as those of ModelCheckpoint, lie in the run's folder.

    What a model says by `self.log` the run tells already, at the end of each epoch.
    """

    def __init__(self, run: RunFolder, rank: int, mirror: Mirror | None = None) -> None:
        super().__init__()
        self._run, self._rank, self.mirror = run, rank, mirror
        self._ignored: set[str] = set()
        self.trainer: L.Trainer | None = None  # it is made with this logger
        self._experiment = Experiment(self)

    @property
    def name(self) -> str:
        """As Lightning calls its folder of logs."""
        return "lightning_logs"

    @property
    def version(self) -> int:
        """One, however often the run goes on."""
        return 0

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._run.path)

    @property
    def log_dir(self) -> str:
        """Where a TensorBoardLogger would write."""
        return str(self._run.path / self.name / f"version_{self.version}")

    @property
    def experiment(self) -> Experiment:
        """What takes the calls of a SummaryWriter, and those of a run of Weights & Biases."""
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Note the numbers that `self.log` did not say."""
        said = {"epoch", *(self.trainer.logged_metrics if self.trainer else ())}
        self.note({name: value for name, value in metrics.items() if name not in said}, step)

    def log_hyperparams(self, *given: Any, **more: Any) -> None:
        """Leave them: the run's spec and the model's card have them."""

    def note(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Note what is a number."""
        numbers = {str(name): number for name, value in metrics.items() if (number := _number(value)) is not None}
        if self._rank == 0 and numbers:
            at = step if step is not None else self.trainer.global_step if self.trainer else 0
            self._run.say({"step": int(at), "metrics": numbers})

    def ignore(self, call: str) -> None:
        """Say once of a call that nothing keeps what it was given."""
        if self._rank == 0 and call not in self._ignored:
            self._ignored.add(call)
            self._run.say({"note": f"logger: {call}() is ignored; a run keeps numbers (log, add_scalar, log_metrics)."})

    def __getattr__(self, name: str) -> Any:
        """Take the calls that single loggers of Lightning have: log_image, log_table, watch ..."""
        if name.startswith(("log_", "watch")):
            mirrored = getattr(self.mirror, name, None)
            return mirrored or (lambda *given, **more: self.ignore(name))
        raise AttributeError(f"{type(self).__name__} has no {name}")


class Experiment:
    """Calls of a SummaryWriter or of wandb's run: numbers are noted, everything else is ignored."""

    def __init__(self, logger: RunLogger) -> None:
        self._logger = logger

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *given: Any, **more: Any) -> None:
        """Note a number."""
        self._logger.note({tag: scalar_value}, global_step)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None, *given: Any, **more: Any
    ) -> None:
        """Note several numbers."""
        self._logger.note({f"{main_tag}/{name}": value for name, value in tag_scalar_dict.items()}, global_step)

    def log(self, data: Mapping[str, Any], step: int | None = None, *given: Any, **more: Any) -> None:
        """Note the numbers of it; all of it is the mirror's, where there is one."""
        self._logger.note(data, step)
        if mirrored := self._mirrored("log"):
            mirrored(data, step, *given, **more)

    def __getattr__(self, name: str) -> Any:
        """Take any other call, and whatever is asked of its answer."""
        if name.startswith("__"):
            raise AttributeError(name)
        mirrored = self._mirrored(name)
        if mirrored is not None:
            return mirrored
        self._logger.ignore(f"experiment.{name}")
        return Nothing()

    def _mirrored(self, name: str) -> Any:
        return self._logger.mirror.asked(name) if self._logger.mirror is not None else None


class Nothing:
    """Takes every call and every question, and does nothing."""

    def __call__(self, *given: Any, **more: Any) -> Nothing:
        """Do nothing."""
        return self

    def __getattr__(self, name: str) -> Nothing:
        """Do nothing."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class Mirror(Logger):
    """A logger that can fail: said once, and then it takes calls as one that is not there.

    Args:
        failed: told in a word why.
    """

    def __init__(self, inner: Any, failed: Callable[[str], None]) -> None:
        super().__init__()
        self._inner, self._failed, self._works = inner, failed, True

    @property
    def name(self) -> Any:
        """As it calls itself."""
        return self._tried(lambda: self._inner.name, "mirror")

    @property
    def version(self) -> Any:
        """As it calls itself."""
        return self._tried(lambda: self._inner.version, 0)

    @property
    def save_dir(self) -> Any:
        """Where it writes."""
        return self._inner.save_dir

    @property
    def experiment(self) -> Any:
        """Its own object, once it could be made."""
        return self._tried(lambda: self._inner.experiment, Nothing())

    def asked(self, name: str) -> Any:
        """Return what its own object has of a name, calls guarded; None where it has none such, or has failed."""
        found = getattr(self.experiment, name, None)
        return self._guarded(found) if self._works else None

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Pass them on."""
        self._tried(lambda: self._inner.log_metrics(metrics, step))

    def log_hyperparams(self, *given: Any, **more: Any) -> None:
        """Pass them on."""
        self._tried(lambda: self._inner.log_hyperparams(*given, **more))

    def log_graph(self, *given: Any, **more: Any) -> None:
        """Pass it on."""
        self._tried(lambda: self._inner.log_graph(*given, **more))

    def save(self) -> None:
        """Let it write."""
        self._tried(self._inner.save)

    def finalize(self, status: str) -> None:
        """Let it end."""
        self._tried(lambda: self._inner.finalize(status))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Let it see a checkpoint of ModelCheckpoint."""
        self._tried(lambda: self._inner.after_save_checkpoint(checkpoint_callback))

    def __getattr__(self, name: str) -> Any:
        """Pass every other call on: log_image, watch ..."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self._guarded(getattr(self._inner, name))

    def _guarded(self, found: Any) -> Any:
        return (lambda *given, **more: self._tried(lambda: found(*given, **more))) if callable(found) else found

    def _tried(self, call: Callable[[], Any], otherwise: Any = None) -> Any:
        if not self._works:
            return otherwise
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - see the module: it never stops a run
            self._works = False
            self._failed(f"{type(error).__name__}: {error}".splitlines()[0])
            return otherwise


def _number(value: Any) -> float | None:
    """Return what is one finite number as one; None for all else."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) and not isinstance(value, str) else None
