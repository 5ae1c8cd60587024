"""What a way of serving a model costs: the time of an answer over HTTP, and how much worse the metric is on real rows.

The models of all ways are served one after the other by a serving process like that of an endpoint, private and on
loopback; it ends with the process that measures. Its callers ask one row at a time, without pause.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jupyter_mlp.core import metrics
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.store.deployments import EndpointFolder

CALLERS = 4  # as many as keep a small machine busy: sharing calls and threads show only where requests meet
ROUNDS = 3  # of all ways, one after the other: a moment in which the machine is busy decides nothing
SECONDS = 0.4  # of measuring each way in each round
_LEAST = 200  # answers, or a 99th percentile says nothing
_LONGEST_S = 60.0  # for a model so slow that it does not give that many
_WARM_S = 0.2
_READY_S = 90.0
_RESAMPLES = 200


@dataclass(frozen=True)
class Times:
    """Times of answers in ms, and answers a second."""

    p50_ms: float
    p99_ms: float
    rate: float

    @classmethod
    def median(cls, rounds: Sequence[Times]) -> Times:
        """Return what is in the middle of several rounds, each number for itself."""
        return cls(*(statistics.median(getattr(one, part.name) for one in rounds) for part in fields(cls)))


@dataclass(frozen=True)
class Loss:
    """The main metric on some rows, and how much worse it is than the original's, as a share; `high` with 95 % certainty."""

    metric: float
    loss: float = 0.0
    high: float = 0.0


class Losses:
    """Measures models against the original on the same rows.

    Args:
        rows: with the model's input columns and its target.

    Raises:
        InvalidInputError: no row has a target that the model knows.
    """

    def __init__(self, original: Path, rows: pa.Table) -> None:
        predictor = Predictor.load(original)
        try:
            labels = np.asarray(predictor.recipe.labels(rows.column(str(predictor.recipe.target))))
            known = np.isfinite(labels) if predictor.task == "regression" else labels >= 0
            self._rows = rows.filter(pa.array(known))
            self._observed = labels[known].astype(np.int64 if predictor.task == "multiclass" else np.float64)
            if not len(self._observed):
                raise InvalidInputError("No row has a target that the model knows.", "Write --data DATASET to measure on other rows.")
            self._metric = metrics.OF_TASK[str(predictor.task)]
            self._original = _said(predictor, self._rows)
        finally:
            predictor.close()
        ones = np.ones(len(self._observed))
        self.name = next(iter(self._metric(self._observed, self._original, ones)))
        self.original = Loss(self._value(self._original, ones))

    def of(self, folder: Path) -> Loss:
        """Return what a model loses; the interval comes from resampling the rows, the same ones for both models."""
        predictor = Predictor.load(folder)
        try:
            said = _said(predictor, self._rows)
        finally:
            predictor.close()
        ones, random = np.ones(len(said)), np.random.default_rng(7)
        drawn = [self._loss(said, random.poisson(1.0, len(said)).astype(np.float64)) for _ in range(_RESAMPLES)]
        loss = self._loss(said, ones)
        return Loss(self._value(said, ones), loss, max(loss, float(np.quantile(drawn, 0.95))))

    def _loss(self, said: np.ndarray, weights: np.ndarray) -> float:
        here, before = self._value(said, weights), self._value(self._original, weights)
        worse = here - before if metrics.lower_is_better(self.name) else before - here
        return worse / abs(before) if before else float("inf") if worse > 0 else 0.0

    def _value(self, said: np.ndarray, weights: np.ndarray) -> float:
        return float(self._metric(self._observed, said, weights)[self.name])


def _said(predictor: Predictor, rows: pa.Table) -> np.ndarray:
    found = predictor.predict_columns({name: rows.column(name) for name in predictor.recipe.columns})
    answers = found.scores if found.probabilities is None else found.probabilities
    if not np.isfinite(answers).all():
        raise InvalidInputError(f"Model {predictor.model[:8]} answers some of these rows with no finite number.", "Deploy another model.")
    return answers.astype(np.float64)


class Trial:
    """A private serving process; `times` swaps a model in and asks it."""

    def __init__(self, folder: EndpointFolder, roots: Sequence[Path], rows: pa.Table) -> None:
        self._folder, self._roots = folder, roots
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._socket.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0
        bodies = [json.dumps({"instances": [{k: json_ready(v) for k, v in row.items()}]}).encode() for row in rows.to_pylist()]
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {folder.token()}\r\nContent-Length: "
        self._requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]

    def times(self, model: str) -> Times:
        """Return the times of a model's answers.

        Raises:
            JobError: it does not load, or fails on the rows.
        """
        self._serve(model)
        with ThreadPoolExecutor(1) as beside:  # a notebook's own thread has an event loop already
            took, seconds = beside.submit(asyncio.run, _asked(self._port, self._requests)).result()
        p50, p99 = np.percentile(np.array(took) * 1000, [50, 99])
        return Times(float(p50), float(p99), len(took) / seconds)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _serve(self, model: str) -> None:
        self._generation += 1
        self._folder.want({"generation": self._generation, "variants": [{"model": model, "weight": 100, "shadow": False}]})
        process = self._process = self._process or self._started()
        deadline = time.monotonic() + _READY_S
        while (actual := self._folder.actual()).get("generation") != self._generation:
            if process.poll() is not None or time.monotonic() > deadline:
                log = self._folder.log.read_text(errors="replace").strip()
                raise JobError(f"The serving process to be measured did not start: {log[-300:]}", "Deploy without limits to see more.")
            time.sleep(0.01)
        if actual["error"]:
            raise JobError(f"Model {model[:8]} cannot be measured: {actual['error']}", "Deploy another model.")

    def _started(self) -> subprocess.Popen[bytes]:
        descriptor = self._socket.fileno()
        argv = [sys.executable, "-m", "jupyter_mlp.serving.child", str(self._folder.path), *map(str, self._roots)]
        argv += ["--socket", str(descriptor), "--parent", str(os.getpid()), "--with-parent"]
        package = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])}
        with self._folder.log.open("wb") as log:
            return subprocess.Popen(argv, pass_fds=[descriptor], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


async def _asked(port: int, requests: Sequence[bytes]) -> tuple[list[float], float]:
    """Let every caller ask one request after the other; return the times of the answers and of the whole."""
    begun = time.perf_counter()
    kept: list[float] = []
    took = await asyncio.gather(*(_caller(port, requests[number::CALLERS] or requests, begun, kept) for number in range(CALLERS)))
    return kept, max(took)


async def _caller(port: int, requests: Sequence[bytes], begun: float, kept: list[float]) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while True:
        asked = time.perf_counter()
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_length(head))
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            raise JobError(f"The model fails on these rows: {body[:200].decode(errors='replace')}", "Write --data DATASET for other rows.")
        if asked - begun > _WARM_S:
            kept.append(now - asked)
        number += 1
        if (now - begun > _WARM_S + SECONDS and len(kept) >= _LEAST) or now - begun > _LONGEST_S:
            writer.close()
            return now - begun - _WARM_S


def _length(head: bytes) -> int:
    return next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))


def examples(rows: pa.Table, columns: Sequence[str], most: int = 500) -> pa.Table:
    """Return some of the rows, evenly taken, as they are asked."""
    step = max(1, len(rows) // most)
    return rows.select(list(columns)).take(pa.array(np.arange(0, len(rows), step)[:most]))


def described(times: Times, loss: Loss) -> dict[str, Any]:
    """Return both as the numbers of a point."""
    return {**vars(times), "metric": loss.metric, "loss": loss.loss, "loss_high": loss.high}
