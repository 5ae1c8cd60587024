"""Micro-batches that never wait: what arrived in one turn of the event loop runs as one call of the model.

A lone request runs in the turn after it arrived; under load the requests of a turn share one call. A model in a process
of its own takes what queued up while it was busy. Nothing here sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.online import MOST_ROWS
from jupyter_mlp.serving import arrow
from jupyter_mlp.serving.columns import Columns
from jupyter_mlp.serving.predictor import Prediction, Predictor

_LARGE = 512  # rows from which a request leaves the event loop, so that small ones pass it
_BATCH = 4096  # rows of one call
_QUEUE = 65_536  # rows that may wait before new ones are refused

Rows = Sequence[Mapping[str, Any]] | Columns
Done = Callable[[Prediction | Exception], None]


class Overloaded(Exception):
    """More is waiting than this model can answer soon."""


class Batcher:
    """Queues requests for one predictor and answers each with its own part of a shared call."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._loop = asyncio.get_running_loop()
        self._queue: list[tuple[Rows, Done]] = []
        self._waiting = 0
        self._scheduled = False
        self._open = 0
        self._most = _BATCH if predictor.shares else 1
        self._retired = False

    def submit(self, rows: Rows) -> asyncio.Future[Prediction]:
        """Queue rows; the future gives their answers, or the error of these rows only.

        Raises:
            Overloaded: too many wait.
        """
        future: asyncio.Future[Prediction] = self._loop.create_future()
        self.add(rows, partial(_set, future))
        return future

    def add(self, rows: Rows, done: Done) -> None:
        """Queue rows, and call `done` with their answers or the error of these rows only.

        Raises:
            Overloaded: too many wait.
        """
        if self._waiting + len(rows) > _QUEUE and self._queue:
            raise Overloaded
        self._open += 1
        if self.predictor.runner.quick and (len(rows) > _LARGE or isinstance(rows, Columns)):
            self._in_thread([(rows, done)])
            return
        self._queue.append((rows, done))
        self._waiting += len(rows)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def settle(self) -> None:
        """Answer here and now what is queued for a quick model."""
        while self._queue and self.predictor.runner.quick:
            batch = self._take()
            self._settle(batch, _answers(self.predictor, [rows for rows, _ in batch]))

    def retire(self) -> None:
        """Close the model when its last request is answered; nothing new may be submitted."""
        self._retired = True
        self._close_if_idle()

    def _flush(self) -> None:
        batch = self._take()
        if not batch:  # settled meanwhile
            self._scheduled = False
            return
        if not self.predictor.runner.quick:
            self._in_thread(batch).add_done_callback(lambda _: self._next())
            return
        self._settle(batch, _answers(self.predictor, [rows for rows, _ in batch]))
        self._next()

    def _next(self) -> None:
        self._scheduled = bool(self._queue)
        if self._scheduled:
            self._loop.call_soon(self._flush)

    def _take(self) -> list[tuple[Rows, Done]]:
        rows = end = 0
        while end < len(self._queue) and rows < self._most:
            rows += len(self._queue[end][0])
            end += 1
        batch, self._queue = self._queue[:end], self._queue[end:]
        self._waiting -= rows
        return batch

    def _in_thread(self, batch: list[tuple[Rows, Done]]) -> asyncio.Future[Any]:
        done = self._loop.run_in_executor(None, _answers, self.predictor, [rows for rows, _ in batch])
        done.add_done_callback(lambda found: self._settle(batch, found.result()))
        return done

    def _settle(self, batch: list[tuple[Rows, Done]], found: list[Prediction | Exception]) -> None:
        for (_, done), one in zip(batch, found, strict=True):
            self._open -= 1
            done(one)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._retired and not self._open:
            self.predictor.close()


def _set(future: asyncio.Future[Prediction], found: Prediction | Exception) -> None:
    if future.done():  # the client went away
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)


def _answers(predictor: Predictor, requests: list[Rows]) -> list[Prediction | Exception]:
    """Answer several requests with one call; where one of them is wrong, each by itself."""
    plain = [rows for rows in requests if not isinstance(rows, Columns)]
    if len(plain) < len(requests):
        return [_of_columns(predictor, rows) if isinstance(rows, Columns) else _answers(predictor, [rows])[0] for rows in requests]
    try:
        together = [row for rows in plain for row in rows]
        if len(together) > MOST_ROWS:
            arrow.keep_from_pandas()
        found = predictor.answer(together)
    except InvalidInputError as error:
        if len(requests) == 1:
            return [error]
        return [_answers(predictor, [rows])[0] for rows in requests]
    except Exception as error:  # noqa: BLE001 - the model failed: every request of the call hears of it
        return [error] * len(requests)
    parts: list[Prediction | Exception] = []
    start = 0
    for rows in requests:
        parts.append(found.part(start, start + len(rows)))
        start += len(rows)
    return parts


def _of_columns(predictor: Predictor, rows: Columns) -> Prediction | Exception:
    try:
        return predictor.answer(rows)
    except Exception as error:  # noqa: BLE001 - who asked hears of it
        return error
