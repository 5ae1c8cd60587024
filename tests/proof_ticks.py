"""Several schedulers, killed at random, on one database: every tick has exactly one record, with an outcome, and ran once.

What is due is an hour of a simulated year that has both changes of summer time, month ends and jumps of the clock in it. The
attempts are processes of their own, as they always are, and are killed too; each writes a line when it has done its work.

python tests/proof_ticks.py [--ticks 1000] [--schedulers 4] [--kill-every 1.0] [--kill-runners 0.02] [--seed 7]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from jupyter_mlp import scheduler
from jupyter_mlp.core import cron
from jupyter_mlp.store import schedules
from jupyter_mlp.store.schedules import Stored, StoredTick
from jupyter_mlp.store.workspace import Workspace

# name: (cron line, zone, policy, share of the ticks)
LINES = {
    "half-hours": ("*/30 * * * *", "Europe/Zurich", "all"),
    "nights": ("30 2 * * *", "Europe/Zurich", "all"),
    "month-ends": ("0 0 L * *", "America/New_York", "all"),
    "the-31st": ("59 23 31 * *", "Australia/Lord_Howe", "all"),
    "latest": ("15 * * * *", "UTC", "latest"),
}
BEGIN = 1774569600.0  # 2026-03-27 00:00 UTC, two days before summer time begins in Europe


def clock_of(folder: Path) -> float:
    """The simulated moment, which whoever runs the proof moves, backwards too."""
    return float((folder / "clock").read_text() or BEGIN)


def _set(folder: Path, now: float) -> None:
    (folder / "clock.new").write_text(str(now))
    os.replace(folder / "clock.new", folder / "clock")


def work(workspace: Workspace, schedule: Stored, tick: StoredTick) -> dict[str, object]:
    """What a tick does here: say that it was done, in one system call, unless it was done already."""
    done = workspace.root / "done" / f"{schedule.name} {tick.tick.replace('/', '_')}"
    handle = os.open(workspace.root / "attempts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, f"{schedule.name} {tick.tick} {tick.attempt}\n".encode())
    os.close(handle)
    if os.environ.get("PROOF_KILL") and random.Random(f"{os.environ['PROOF_KILL']} {tick.tick} {tick.attempt}").random() < 0.02:
        os.kill(os.getpid(), signal.SIGKILL)
    done.touch()
    return {"run": "done"}


def be_scheduler(folder: Path) -> None:
    runner = [sys.executable, __file__, "--run", str(folder)]
    scheduler.serve(Workspace(folder), clock=lambda: clock_of(folder), every_s=0.02, workers=2, runner=runner)


def prove(ticks: int, count: int, kill_every_s: float, kill_runners: bool, seed: int) -> list[str]:
    """Let them loose until so many ticks have an outcome; return what is wrong."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "done").mkdir()
        (folder / "clock").write_text(str(BEGIN))
        workspace = Workspace(folder)
        for line, (text, zone, policy) in LINES.items():
            spec = {"cron": text, "tz": zone, "catch_up": policy, "retries": 3, "backoff_s": 1.0, "max_running": 2, "notify": []}
            schedules.save(workspace.database, line, {**spec, "notebook": "-", "parameters": {}}, repr(BEGIN), BEGIN)
        environment = {**os.environ, "MLP_WORKSPACE": name, **({"PROOF_KILL": str(seed)} if kill_runners else {})}

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, __file__, "--serve", name], env=environment, start_new_session=True)

        running = [start() for _ in range(count)]
        kills, now, latest, last_kill = 0, BEGIN, BEGIN, time.monotonic()
        try:
            while True:
                rows = _count(workspace)
                if sum(rows.values()) >= ticks:
                    break
                if rows["waiting"] + rows["running"] < 12:
                    jump = draw.choice([600.0, 1800.0, 3600.0, 7200.0, 86400.0 / 4, -3600.0])  # a clock that was set back too
                    now += jump
                    latest = max(latest, now)
                    _set(folder, now)
                if time.monotonic() - last_kill > kill_every_s * draw.uniform(0.5, 1.5):
                    place = draw.randrange(count)
                    running[place].kill()
                    running[place].wait()
                    running[place] = start()
                    kills, last_kill = kills + 1, time.monotonic()
                time.sleep(0.05)
            deadline, now = time.monotonic() + 120, latest  # what was planned before the clock was set back is due then
            while (left := _count(workspace))["waiting"] + left["running"] and time.monotonic() < deadline:
                _set(folder, now := now + 1)  # waits after failures pass, nothing else falls due
                time.sleep(0.2)
        finally:
            for process in running:
                process.kill()
                process.wait()
        wrong = _look(workspace, folder)
        rows = _count(workspace)
        attempts = (folder / "attempts").read_text().splitlines() if (folder / "attempts").exists() else []
        print(
            f"{sum(rows.values())} ticks ({dict(rows)}), {count} schedulers, {kills} kills of schedulers, {len(attempts)} attempts, "
            f"{(now - BEGIN) / 86400:.0f} days: {'each has exactly one record with an outcome' if not wrong else '; '.join(wrong[:5])}"
        )
        return wrong


def _count(workspace: Workspace) -> Counter[str]:
    with workspace.database.transaction() as connection:
        return Counter({row["state"]: row["n"] for row in connection.execute("SELECT state, COUNT(*) AS n FROM ticks GROUP BY state")})


def _look(workspace: Workspace, folder: Path) -> list[str]:
    """Compare the records with what should have fallen due, computed anew, and with what was done."""
    wrong = []
    done = {path.name for path in (folder / "done").iterdir()}
    for one in schedules.every(workspace.database):
        found = {tick.due: tick for tick in schedules.recent(workspace.database, one.name, 100_000)}
        text, zone, policy = LINES[one.name]
        expected = set(cron.due(text, zone, BEGIN, float(one.seen), 1_000_000)) if float(one.seen) > BEGIN else set()
        wrong += [f"{one.name}: {len(expected - set(found))} ticks have no record"] if expected - set(found) else []
        wrong += [f"{one.name}: {len(set(found) - expected)} ticks were never due"] if set(found) - expected else []
        for tick in found.values():
            ran = f"{tick.schedule} {tick.tick}" in done
            if tick.state not in ("finished", "skipped"):
                wrong.append(f"{tick.schedule} {tick.tick} is {tick.state}: {dict(tick.facts)}")
            elif ran != (tick.state == "finished"):
                wrong.append(f"{tick.schedule} {tick.tick} is {tick.state} and was {'done' if ran else 'not done'}")
            elif policy == "all" and tick.state == "skipped":
                wrong.append(f"{tick.schedule} {tick.tick} was skipped")
    lines = Counter((folder / "attempts").read_text().splitlines()) if (folder / "attempts").exists() else Counter()
    wrong += [f"the attempt {line!r} was done {n} times" for line, n in lines.items() if n > 1]
    return wrong


def main() -> int:
    """Print one line; 1 when something is wrong."""
    if sys.argv[1:2] == ["--serve"]:
        be_scheduler(Path(sys.argv[2]))
        return 0
    if sys.argv[1:2] == ["--run"]:
        folder, name, tick, attempt = sys.argv[2:6]
        scheduler.attempt(Workspace(folder), name, tick, int(attempt), clock=lambda: clock_of(Path(folder)), execute=work)
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=1000)
    parser.add_argument("--schedulers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=1.0)
    parser.add_argument("--spare-runners", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    print(json.dumps(vars(given)))
    return int(bool(prove(given.ticks, given.schedulers, given.kill_every, not given.spare_runners, given.seed)))


if __name__ == "__main__":
    sys.exit(main())
