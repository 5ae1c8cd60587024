"""Do callers stay with their model? Ten thousand keys are asked over HTTP, and again after each of many restarts of a real endpoint.

restarts   stopped and started; the serving process killed, its parent killed, all of it killed at once and started; another model
           deployed and rolled back; a shadow put beside and taken out
asked      over connections that are kept, each answer's value must be that of the model that it names
split      the keys that the challenger has, of all: within what chance gives the planned tenth

python tests/proof_sticky.py [--keys 10000] [--restarts 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
ROW = {"dep_delay": 4.0, "carrier": "UA"}
CONNECTIONS = 8
SHARE = 0.1
_SURE = 3.9  # standard deviations; one split of ten thousand is farther off


@dataclass
class Seen:
    """What happened.

    Attributes:
        changed: keys that had another model after a restart, of each restart. `mixed`: answers whose value was another model's.
    """

    keys: int
    challenger: int = 0
    mixed: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    restarts: int = 0

    @property
    def allowed(self) -> float:
        """How far the split may be from the planned one."""
        return _SURE * float((self.keys * SHARE * (1 - SHARE)) ** 0.5)

    @property
    def ok(self) -> bool:
        """Whether nobody changed, nothing was mixed, and the split is as planned."""
        return not sum(self.changed.values()) and not self.mixed and abs(self.challenger - SHARE * self.keys) <= self.allowed

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in self.changed.items())
        return (
            f"{self.keys:,} keys over {self.restarts} restarts: {sum(self.changed.values()):,} changed their model ({kinds}), "
            f"{self.mixed:,} answers mixed; the challenger has {self.challenger:,} of them, planned {SHARE * self.keys:,.0f} "
            f"(+- {self.allowed:,.0f})"
        )


async def _ask_all(port: int, token: str, keys: Sequence[str | int]) -> list[tuple[str, float]]:
    """Return which model answered each key, and what it said."""
    found: dict[int, tuple[str, float]] = {}
    waiting = iter(enumerate(keys))
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number, key in waiting:
                body = json.dumps({"instances": [ROW], "key": key})
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                answer = await reader.readuntil(b"\r\n\r\n")
                size = int(next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
                said = json.loads(await reader.readexactly(size))
                found[number] = (said["model"], said["predictions"][0])
        finally:
            writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return [found[number] for number in range(len(keys))]


def _restarts(at: Any, folder: Any, other: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what to do to an endpoint, for ever."""
    from jupyter_mlp.deployment import deploy

    def killed(which: str) -> None:
        before = folder.actual()["pid"]
        processes = {"parent": psutil.Process(folder.process().pid), "serving": psutil.Process(before)}
        processes[which].send_signal(signal.SIGKILL)
        _until(lambda: folder.actual().get("pid") not in (None, before) and folder.running)
        # One whose parent was killed makes room for another, and closes its connections as it goes: who asks now asks the other.
        _until(lambda: not _lives(processes["serving"]))

    def all_killed() -> None:
        parent = psutil.Process(folder.process().pid)
        family = [parent, *parent.children(recursive=True)]
        for end in (psutil.Process.suspend, psutil.Process.kill, lambda process: process.wait(10)):  # as a machine goes down
            for process in family:
                end(process)
        at.start()

    def stopped() -> None:
        at.stop()
        at.start()

    def rolled_back() -> None:
        deploy(other, to=at.name)
        at.rollback()

    def shadowed() -> None:
        deploy(other, to=at.name, shadow=True)
        at.remove(f"model:{other}")

    while True:
        yield "stop and start", stopped
        yield "kill -9 of the serving process", lambda: killed("serving")
        yield "another model and a rollback", rolled_back
        yield "kill -9 of its parent", lambda: killed("parent")
        yield "kill -9 of all, and start", all_killed
        yield "a shadow comes and goes", shadowed


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(true: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.02)


def run(keys: int, restarts: int) -> Seen:
    """Ask, restart, ask again, and return what was seen."""
    from models import make_model

    from jupyter_mlp.deployment import deploy
    from jupyter_mlp.serving import places
    from jupyter_mlp.store import deployments
    from jupyter_mlp.store.workspace import current

    workspace = current()
    values = {make_model(workspace, constant=float(number)): float(number) for number in range(1, 4)}
    champion, challenger, other = values
    names: list[str | int] = [f"user{number}" if number % 2 else number for number in range(keys)]
    seen = Seen(keys)
    deploy(champion, to="sticky")
    try:
        at = deploy(challenger, to="sticky", traffic=int(100 * SHARE))
        token = at.headers["Authorization"].split()[1]

        def asked() -> list[str]:
            found = asyncio.run(_ask_all(at.port, token, names))
            seen.mixed += sum(values[model] != said for model, said in found)
            return [model for model, _ in found]

        first = asked()
        seen.challenger = first.count(challenger)
        kinds = _restarts(at, deployments.folder(workspace, "sticky"), other)
        for _ in range(restarts):
            kind, restart = next(kinds)
            restart()
            now = asked()
            seen.changed[kind] = seen.changed.get(kind, 0) + sum(one != before for one, before in zip(now, first, strict=True))
            seen.restarts += 1
    finally:
        places.stop_all(workspace)
    return seen


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--restarts", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        found = run(given.keys, given.restarts)
    print(found)
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
