"""A rank says how far it is, and where it stands when the supervisor finds that none gets any further (store/stalls.py).

The training marks each of its places in memory; a thread beside it writes them down. Where that thread cannot run either,
because native code holds the interpreter, faulthandler's own writes the stacks and ends the process.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import lightning as L  # noqa: N812 - how everybody writes it

from jupyter_mlp.backends.lightning_finite import Finite
from jupyter_mlp.store import stalls
from jupyter_mlp.store.attempts import log_of
from jupyter_mlp.store.jobs import RunFolder

# In the order in which a step goes through them: who is at an earlier one is who the others wait for.
BATCH, STEP, BACKWARD, OPTIMISER, VALIDATION, EPOCH = range(6)
_DOING = (
    *("waiting for its next batch", "in the training step", "in the backward pass", "after the backward pass"),
    *("in validation", "at the end of the epoch"),
)


class Pulse(Finite):
    """Marks how far this rank is; and is what looks at its weights, because a callback more costs every step 15 us.

    Args:
        busy: whether a checkpoint is being written, which is getting on, too.
    """

    def __init__(self, run: RunFolder, rank: int, limit_s: float, busy: Callable[[], bool]) -> None:
        self._run, self._rank, self._limit_s, self._busy = run, rank, limit_s, busy
        self._attempt = int(os.environ.get("MLP_ATTEMPT", "1"))
        self._moved, self._place, self._epoch = 0, (0, BATCH, 0), 1
        self._thread, self._ended = 0, threading.Event()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to watch: what comes before takes as long as it takes."""
        self._mark(trainer, BATCH)
        self._thread = threading.get_ident()
        threading.Thread(target=self._watch, name="mlp-pulse", daemon=True).start()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch no more."""
        self._end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Watch no more."""
        self._end()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """It has its batch."""
        self._mark(trainer, STEP)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Any) -> None:
        """It has its loss."""
        self._place, self._moved = (self._place[0], BACKWARD, 0), self._moved + 1

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """It has its gradients, in which all ranks have a part."""
        self._place, self._moved = (self._place[0], OPTIMISER, 0), self._moved + 1

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step further."""
        self._place, self._moved = (self._place[0] + 1, BATCH, 0), self._moved + 1

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, *more: Any) -> None:
        """A batch of validation further."""
        self._mark(trainer, VALIDATION, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """An epoch further."""
        self._mark(trainer, EPOCH)
        super().on_train_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """What it knows is being gathered."""
        self._moved += 1

    def _mark(self, trainer: L.Trainer, doing: int, within: int = 0) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        self._place, self._epoch = (done, doing, within), trainer.current_epoch + 1
        self._moved += 1

    def _end(self) -> None:
        if self._thread and not self._ended.is_set():
            self._ended.set()
            with suppress(OSError):  # on a full disk the training says so itself
                stalls.say(self._run, f"pulse.{self._rank}.json", {"attempt": self._attempt, "place": None})

    def _watch(self) -> None:
        between = stalls.between(self._limit_s)
        with log_of(self._run.path, self._rank).open("a") as log:
            self._look(between, log)
            faulthandler.cancel_dump_traceback_later()

    def _look(self, between: float, log: TextIO) -> None:
        written = -1
        while not self._ended.wait(between):
            faulthandler.dump_traceback_later(self._limit_s + 4 * between, exit=True, file=log)
            self._moved += self._busy()
            with suppress(OSError, ValueError):  # a full disk, or a file between two writes: it is tried again
                if self._moved != written:
                    moved = self._moved
                    stalls.say(self._run, f"pulse.{self._rank}.json", {**self._said(), "moved": moved})
                    written = moved
                elif (self._run.read(stalls.STILL) or {}).get("attempt") == self._attempt:
                    self._tell(log)
                    return

    def _said(self) -> dict[str, Any]:
        step, doing, _ = self._place
        return {"attempt": self._attempt, "place": self._place, "step": step + 1, "epoch": self._epoch, "doing": _DOING[doing]}

    def _tell(self, log: TextIO) -> None:
        """Write down where each thread stands; the supervisor ends this process then."""
        frames = sys._current_frames()
        frame = frames.pop(self._thread, None)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        # Not by faulthandler, which writes 100 threads at most, the youngest first; and no file of source is read before this is written.
        stacks = [_stack("The training", frame)] + [_stack(f"Thread {names.get(ident, ident)}", one) for ident, one in frames.items()]
        text = "\n".join(stacks)
        log.write(text)
        log.flush()
        (self._run.path / f"stall.{self._rank}.txt").write_text(text)
        stalls.say(self._run, f"stall.{self._rank}.json", {**self._said(), "stack": line_of(frame, self._run.path / "code")})


def _stack(whose: str, frame: FrameType | None) -> str:
    calls = (f'  File "{one.f_code.co_filename}", line {line} in {one.f_code.co_name}\n' for one, line in traceback.walk_stack(frame))
    return f"{whose}, most recent call first:\n{''.join(calls if frame else [])}"


def line_of(frame: FrameType | None, code: Path) -> str:
    """Return the line of the user's own code that a stack stands at, else its innermost one."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    if not frames:
        return ""
    own = next((one for one in frames if one.f_code.co_filename.startswith(str(code))), frames[0])
    text = linecache.getline(own.f_code.co_filename, own.f_lineno).strip()
    called = f", in {frames[0].f_code.co_name}" if own is not frames[0] else ""
    return f"in {own.f_code.co_name}, line {own.f_lineno} of {Path(own.f_code.co_filename).name}: {text}{called}"
