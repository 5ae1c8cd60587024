"""Swaps under an open load: good models and bad ones of five kinds, while requests come at a fixed rate and never wait for an answer.

load       a process of its own sends a request every 1/RATE s on whatever connection is free; its time counts from when it
           was due, so that an endpoint that stops for a moment is charged for everyone who came meanwhile
good       models that answer one constant each: an answer names one UUID, and its value must be that one's
health     asked all the while, as a balancer does: after each "ready" a prediction is sent, which must not fail for lack of a server,
           unless it was in hand when a process was killed
bad        a graph that was changed on disk, NaN, too slow, another schema, code that raises

 killed     the serving process, whose successor stands by, and then the parent that owns the port, whom the serving process replaces

python tests/proof_swaps.py [--requests 100000] [--rate 500] [--good 50] [--bad 50] [--kills 3] [--parents 3] [--processes 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
KINDS = ("changed graph", "NaN", "too slow", "another schema", "code that raises")
ROW = {"dep_delay": 4.0, "carrier": "UA"}
IDLE_S = 30.0  # idle connections are closed by then, as pools of clients do
AFTER_S = 0.2  # what a swap may still disturb
ASK_S = 0.02  # between two questions for health


async def load(port: int, token: str, rate: float, requests: int, stop: Path, out: Path) -> None:
    """Send requests at a fixed rate until so many are sent and `stop` exists; write (due, ms, model, value or -1) of each."""
    body = json.dumps({"instances": [ROW, ROW]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
    seen: list[tuple[float, float, str, float, str]] = []

    async def once() -> dict[str, Any]:
        while free and free[0][0] < time.time() - IDLE_S:
            free.pop(0)[2].close()
        while free and free[-1][1].at_eof():  # the other side closed it: no pool of a client gives such a connection out
            free.pop()[2].close()
        reader, writer = free.pop()[1:] if free else await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = int(next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
            found = json.loads(await reader.readexactly(size))
        except BaseException:
            writer.close()
            raise
        free.append((time.time(), reader, writer))
        return {**found, "status": int(answer.split(b" ", 2)[1])}

    async def one(due: float) -> None:
        try:
            found = await asyncio.wait_for(once(), 20)
            said = found["predictions"]
            failed = "" if found["status"] == 200 and said[0] == said[1] else f"status {found['status']}: {said}"
            seen.append((due, (time.time() - due) * 1000, found["model"], said[0], failed))
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody got no answer
            seen.append((due, (time.time() - due) * 1000, "", -1.0, repr(error)[:200]))

    tasks: set[asyncio.Task[None]] = set()
    due = time.time()
    sent = 0
    while sent < requests or not stop.exists():
        due += 1 / rate
        wait = due - time.time()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        sent += 1
    await asyncio.gather(*tasks)
    out.write_text(json.dumps(seen))


async def watch(port: int, token: str, stop: asyncio.Event) -> list[tuple[float, bool, float, str]]:
    """Ask for health until told to end, and for a prediction after each "ready"; return (asked, ready, ended, what failed) of each."""
    found: list[tuple[float, bool, float, str]] = []
    body = json.dumps({"instances": [ROW]})
    predict = f"POST /predict HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n"
    while not stop.is_set():
        await asyncio.sleep(ASK_S)
        asked = time.time()
        try:
            status = await _status(port, "GET /health HTTP/1.1\r\n")
        except OSError:
            continue  # nobody said anything
        failed = ""
        if status == 200:
            try:
                status = await _status(port, predict, body)
                failed = "" if status == 200 else f"status {status}"
            except OSError as error:
                failed = repr(error)
        found.append((asked, status == 200 or bool(failed), time.time(), failed))
    return found


async def _status(port: int, head: str, body: str = "") -> int:
    """Send a request on a connection of its own, as balancers do; return the status. OSError where no answer comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}Host: x\r\nConnection: close\r\n\r\n{body}".encode())
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    if not answer:
        raise ConnectionResetError("closed without an answer")
    return int(answer.split(b" ", 2)[1])


async def load_and_watch(port: int, token: str, rate: float, requests: int, stop: Path, out: Path) -> None:
    """Send requests, and ask for health the while; write what became of both."""
    ended = asyncio.Event()
    watching = asyncio.create_task(watch(port, token, ended))
    await load(port, token, rate, requests, stop, out)
    ended.set()
    _health_of(out).write_text(json.dumps(await watching))


def _health_of(out: Path) -> Path:
    return out.with_suffix(".health")


def lies(watched: list[list[Any]], kills: list[tuple[float, float]]) -> list[str]:
    """What failed after health had said that it would not; no word is a lie when what it spoke for was killed a moment later."""
    return [
        failed for asked, _, ended, failed in watched if failed and not any(asked <= after and before <= ended for before, after in kills)
    ]


@dataclass(frozen=True)
class Watched:
    """What health said: how often it was asked and said that the endpoint is ready, and when that was not so."""

    asked: int
    ready: int
    lies: list[str]

    @classmethod
    def read(cls, out: Path, kills: list[tuple[float, float]]) -> Watched:
        """Return what was watched beside a load."""
        watched = json.loads(_health_of(out).read_text())
        return cls(len(watched), sum(one[1] for one in watched), lies(watched, kills))

    def __add__(self, other: Watched) -> Watched:
        return Watched(self.asked + other.asked, self.ready + other.ready, self.lies + other.lies)

    def __str__(self) -> str:
        wrong = "".join(f"\n  {one}" for one in self.lies[:5])
        return f"health answered {self.asked:,} times, {self.ready:,} times ready: {len(self.lies)} lies{wrong}"


@dataclass(frozen=True)
class Killed:
    """What became of the requests while one kind of process was killed, and the longest that it took until another served."""

    what: str
    requests: int
    failed: list[str]
    back_s: float

    @property
    def lost(self) -> bool:
        """Whether more than one in a thousand got no answer, or another took more than 5 s to come."""
        return len(self.failed) > 0.001 * self.requests or self.back_s > 5

    def __str__(self) -> str:
        answered = 1 - len(self.failed) / self.requests
        return f"kill -9 of {self.what}: {answered:.3%} of {self.requests:,} answered, another serves within {self.back_s:.2f} s"


@dataclass(frozen=True)
class Seen:
    """What happened: counts, what was wrong, and the times (ms, counted from when a request was due)."""

    requests: int
    failed: list[str]
    mixed: int
    refused: dict[str, int]
    accepted: int
    good: int
    steady_p99: float
    swaps_p99: float
    killed: list[Killed]
    health: Watched

    @property
    def slow(self) -> bool:
        """Whether swaps make the slowest of a hundred requests more than twice as slow."""
        return self.swaps_p99 > 2 * self.steady_p99

    def __str__(self) -> str:
        refused = ", ".join(f"{count} x {kind}" for kind, count in self.refused.items())
        ratio = self.swaps_p99 / max(self.steady_p99, 1e-9)
        kills = "".join(f"\n{one}" for one in self.killed)
        return (
            f"{self.requests:,} requests, {self.good} good swaps, {sum(self.refused.values())} bad ones refused ({refused}), "
            f"{self.accepted} bad ones taken: {len(self.failed)} failed, {self.mixed} mixed; "
            f"p99 {self.swaps_p99:.1f} ms during swaps, {self.steady_p99:.1f} ms steady: {ratio:.2f}{kills}"
            + "".join(f"\n  {one}" for one in self.failed[:5])
            + f"\n{self.health}"
        )


@contextmanager
def _loaded(at: Any, rate: float, requests: int, folder: Path) -> Iterator[Path]:
    stop, out = folder / "stop", folder / f"seen{time.time_ns()}.json"
    stop.unlink(missing_ok=True)
    token = at.headers["Authorization"].split()[1]
    argv = [sys.executable, __file__, "--be-load", str(at.port), token, str(rate), str(requests), str(stop), str(out)]
    process = subprocess.Popen(argv)
    try:
        yield out
        stop.touch()
        process.wait(900)
    finally:
        process.kill()
        process.wait()


def run(
    folder: Path, requests: int, rate: float, good: int, bad: int, kills: int, parents: int = 0, seed: int = 7, processes: int = 1
) -> Seen:
    """Swap under load, then kill under load, and return what was seen.

    Args:
        processes: that serve the endpoint.
    """
    from models import ODD, make_model

    from jupyter_mlp.core.errors import MLPError
    from jupyter_mlp.deployment import deploy
    from jupyter_mlp.serving import places
    from jupyter_mlp.store.workspace import current

    workspace = current()
    values = {make_model(workspace, constant=float(i)): float(i) for i in range(1, 5)}
    models = list(values)
    changed = make_model(workspace, constant=9.0)
    with (workspace.models / changed / "model.onnx").open("ab") as file:
        file.write(b"more")
    wrong = {
        "changed graph": changed,
        "NaN": make_model(workspace, constant=float("nan")),
        "too slow": make_model(workspace, code=ODD.replace("found = self", "import time; time.sleep(0.4); found = self")),
        "another schema": make_model(workspace, columns=("distance",)),
        "code that raises": make_model(workspace, code=ODD.replace("found = self", "raise RuntimeError('no'); found = self")),
    }
    order = ["good"] * good + [KINDS[i % len(KINDS)] for i in range(bad)]
    random.Random(seed).shuffle(order)
    refused: dict[str, int] = {}
    accepted = 0
    windows: list[tuple[float, float]] = []
    at = deploy(models[0], to="swapped", replicas=processes)
    try:
        pause = max(
            0.05, (requests / rate - 4 - 4.5 * sum(kind in ("too slow", "code that raises") for kind in order)) / max(1, len(order)) - 0.3
        )
        with _loaded(at, rate, requests, folder) as out:
            time.sleep(3)
            for number, kind in enumerate(order):
                begun = time.time()
                try:
                    deploy(models[(number + 1) % len(models)] if kind == "good" else wrong[kind], to="swapped")
                    accepted += kind != "good"
                except MLPError:
                    if kind == "good":
                        raise
                    refused[kind] = refused.get(kind, 0) + 1
                windows.append((begun, time.time() + AFTER_S))
                time.sleep(pause)
        seen = json.loads(out.read_text())
        health = Watched.read(out, [])
        killed = []
        for what, times in (("the serving process", kills), ("its parent", parents)):
            if times:
                one, watched = _kills(at, rate, what, times, folder)
                killed.append(one)
                health += watched
    finally:
        places.stop_all(workspace)
    due = np.array([one[0] for one in seen])
    times = np.array([one[1] for one in seen])
    swapping = np.zeros(len(seen), dtype=bool)
    for begun, ended in windows:
        swapping |= (due >= begun) & (due <= ended)
    swapping_or_first = swapping | (due < due[0] + 1)
    failed = [one[4] for one in seen if one[4]]
    mixed = sum(not one[4] and values.get(one[2]) != one[3] for one in seen)
    steady, during = times[~swapping_or_first], times[swapping]
    return Seen(
        len(seen), failed, mixed, refused, accepted, good, float(np.percentile(steady, 99)), float(np.percentile(during, 99)), killed,
        health,
    )  # fmt: skip


def _kills(at: Any, rate: float, what: str, times: int, folder: Path) -> tuple[Killed, Watched]:
    """Kill one kind of process under load, several times; return what became of the requests, and what health said."""
    from jupyter_mlp.store import deployments
    from jupyter_mlp.store.workspace import current

    place = deployments.folder(current(), at.name)
    slowest = 0.0
    killed: list[tuple[float, float]] = []
    with _loaded(at, rate, int(rate * 12 * times), folder) as out:
        time.sleep(2)
        for number in range(times):
            slot = number % place.processes
            serving, parent = _pid(place, slot), place.process()
            assert parent is not None
            begun = time.monotonic()
            before = time.time()
            os.kill(serving if what == "the serving process" else parent.pid, signal.SIGKILL)
            killed.append((before, time.time()))
            while (_pid(place, slot) == serving or not place.running) and time.monotonic() < begun + 20:
                time.sleep(0.02)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(8)
    seen = json.loads(out.read_text())
    return Killed(what, len(seen), [one[4] for one in seen if one[4]], slowest), Watched.read(out, killed)


def _pid(place: Any, slot: int) -> int:
    """The process that serves in one of the endpoint's places."""
    said = place.actual() if place.processes == 1 else place.replica(str(slot))
    return int(said["pid"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--be-load", nargs=6)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--good", type=int, default=50)
    parser.add_argument("--bad", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--parents", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.be_load:
        port, token, rate, requests, stop, out = given.be_load
        asyncio.run(load_and_watch(int(port), token, float(rate), int(requests), Path(stop), Path(out)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        found = run(Path(folder), given.requests, given.rate, given.good, given.bad, given.kills, given.parents, processes=given.processes)
    print(found)
    lost = any(one.lost for one in found.killed)
    wrong = found.failed or found.mixed or found.accepted or found.health.lies or not found.health.ready
    return int(bool(wrong or found.slow or lost or found.requests < given.requests))


if __name__ == "__main__":
    sys.exit(main())
