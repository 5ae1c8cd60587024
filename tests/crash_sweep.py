"""Kill a publication at every system call that touches our files, and look at what a reader finds.

    dry run under strace        every call between the two marks of crash_child.py, in order
    for each call of them       a fresh folder, the same run, SIGKILL on entering exactly that call
    then                        a reader finds the old content or the new, never a mix; the next publication succeeds

A kill on entering call N leaves what a kill after call N-1 leaves, so entering each call covers every moment between.
SIGKILL shows order, not durability; for a power cut `promises` reads the dry run: bytes are synced before their name
appears, and every new name is synced in its folder before the publication ends. `refused` makes each call fail instead
(disk full, broken, read-only) and asks for two lines to the user and the old content.

    python tests/crash_sweep.py [--quick]      prints the table; needs strace
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import crash_child

from jupyter_mlp.store import artifacts

SCENARIOS = ("bytes", "file", "folder", "folder-again", "record")
CAUGHT_BY = {  # a defect of crash_child.py -> the scenario that shows it
    "no fsync": "bytes",
    "no fsync of the folder": "file",
    "written in place": "bytes",
    "moved from another filesystem": "bytes",
    "record first": "record",
}
ERRORS = ("ENOSPC", "EIO", "EROFS")
_LINE = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)")
_FD = re.compile(r"^\w+<(?P<path>[^>]*)>")
_PATHS = re.compile(r'"([^"]*)"')
_WRITES = {"write", "pwrite64", "writev", "pwritev", "ftruncate", "copy_file_range", "sendfile", "fallocate"}
_SYNCS = {"fsync", "fdatasync"}
_NAMES = {
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "chmod",
    "fchmod",
}
_CHANGES = _WRITES | _SYNCS | _NAMES | {"close", "fchown"}  # what can differ on disk before and after


@dataclass(frozen=True)
class Call:
    """One system call of the dry run."""

    name: str
    nth: int  # of all calls of that name since the process began: how strace counts
    arguments: str
    ok: bool

    @property
    def changes(self) -> bool:
        """Whether the disk may differ before and after it."""
        return self.name in _CHANGES or (self.name == "openat" and "O_CREAT" in self.arguments)

    @property
    def path(self) -> str:
        """The file or folder it is about; of a rename, the new name."""
        found = _FD.match(self.arguments)
        if found and self.name != "openat" and not self.name.endswith("at"):
            return found["path"].removesuffix("(deleted)")
        return _PATHS.findall(self.arguments)[-1]


@dataclass
class Outcome:
    """What one scenario came to."""

    points: int = 0
    found: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Sweep:
    """One scenario in one folder (its filesystem is what matters), as written or with a defect."""

    def __init__(self, scenario: str, folder: Path, defect: str = "") -> None:
        self.scenario = scenario
        self.folder = Path(tempfile.mkdtemp(prefix=f"crash-{scenario}-", dir=folder))
        self.defect = defect
        self.elsewhere = tempfile.mkdtemp(prefix="crash-tmp-")
        crash_child.prepare(scenario, self.folder / "template")

    def close(self) -> None:
        """Remove what it wrote."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.elsewhere, ignore_errors=True)

    @cached_property
    def calls(self) -> list[Call]:
        """The calls of one undisturbed run that touch our files, in order."""
        root = self._fresh("dry")
        self._child(root, [])  # compiles the modules, so that the next runs are alike
        shutil.rmtree(root)
        root = self._fresh("dry")
        log = self.folder / "dry.log"
        done = self._child(root, ["-y", "-e", "trace=%file,%desc"], log)
        if self.scenario != "folder-again" and crash_child.seen(self.scenario, root) != "new":
            raise RuntimeError(f"{self.scenario} does not even work undisturbed: {done.stdout}{done.stderr}")
        return list(_touching(log, str(root), self.elsewhere))

    def kills(self, quick: bool = False) -> Outcome:
        """Kill on entering each call; with `quick` only on those after which the disk may differ."""
        return self._each([(call, "") for call in self.calls if call.changes or not quick], self._kill)

    def refused(self, quick: bool = False) -> Outcome:
        """Let each call that can fail in life fail, with each kind of error; with `quick` with one kind, in turn."""
        wanted = [call for call in self.calls if call.name in _WRITES | _SYNCS | {"openat", "rename", "mkdir"} and call.ok]
        points = [
            (call, error) for at, call in enumerate(wanted) for kind, error in enumerate(ERRORS) if not quick or kind == at % len(ERRORS)
        ]
        return self._each(points, self._refuse)

    def promises(self) -> list[str]:
        """What a power cut could undo or mix, from the order of the calls; empty when nothing."""
        return list(_unsynced(self.calls, self.folder))

    def seen_wrong(self) -> list[str]:
        """Everything that is wrong with it, quickly: for a defect that was put in on purpose."""
        return [*self.kills(quick=True).wrong, *self.promises()]

    def _each(self, points: list[tuple[Call, str]], one: Callable[[Path, Call, str], str]) -> Outcome:
        outcome = Outcome()

        def run(numbered: tuple[int, tuple[Call, str]]) -> tuple[str, str]:
            number, (call, error) = numbered
            root = self._fresh(f"{number:04d}{error}")
            found = one(root, call, error)
            shutil.rmtree(root, ignore_errors=True)
            return found, f"{self.scenario}: {call.name}({call.arguments[:100]}) {error or 'killed'}: {found}"

        with ThreadPoolExecutor(2) as pool:
            for found, said in pool.map(run, enumerate(points)):
                outcome.points += 1
                outcome.found[found if found in ("old", "new") else "wrong"] += 1
                if found not in ("old", "new"):
                    outcome.wrong.append(said)
        return outcome

    def _kill(self, root: Path, call: Call, _error: str) -> str:
        log = root.with_suffix(".log")
        done = self._child(root, ["-e", f"trace=newfstatat,{call.name}", "-e", f"inject={call.name}:signal=SIGKILL:when={call.nth}"], log)
        if done.returncode != -9 or crash_child.BEGIN not in log.read_text():
            return f"not killed inside the publication (status {done.returncode}): the runs differ"
        found = crash_child.seen(self.scenario, root) if root.exists() else "torn: the folder is gone"
        if found in ("old", "new"):
            found = self._strays(root) or found
        if found in ("old", "new") and not self.defect:
            crash_child.perform(self.scenario, root)
            again = crash_child.seen(self.scenario, root)
            return found if again == ("old" if self.scenario == "folder-again" else "new") else f"the next publication gave {again}"
        return found

    def _refuse(self, root: Path, call: Call, error: str) -> str:
        log = root.with_suffix(".log")
        done = self._child(root, ["-e", f"trace={call.name}", "-e", f"inject={call.name}:error={error}:when={call.nth}"], log)
        if "(INJECTED)" not in log.read_text():
            return "the error did not happen: the runs differ"
        lines = done.stdout.splitlines()
        found = crash_child.seen(self.scenario, root)
        if found not in ("old", "new"):
            return found
        if done.returncode == 0:
            return found if found == "new" or self.scenario == "folder-again" else "success was said, but nothing is there"
        if done.returncode != 3 or len(lines) != 3 or not all(lines):
            return f"not two lines to the user: {done.stdout}{done.stderr[-300:]}"
        left = list(artifacts.leftovers(root))
        return f"left behind: {left}" if left else found

    def _strays(self, root: Path) -> str:
        """Whatever else lies there must be findable as a leftover, or it stays for ever."""
        before = {"card.json", "part.bin", "records.db", "records.db-wal", "records.db-shm", "model"}
        left = set(artifacts.leftovers(root))
        for path in root.rglob("*"):
            inside = path in left or any(parent in left for parent in path.parents)
            ours = path.name in before or root / "model" in path.parents or root / "artifacts" in path.parents
            if path.is_file() and not inside and not ours:
                return f"a stray file: {path.name}"
        return ""

    def _fresh(self, name: str) -> Path:
        root = self.folder / name
        shutil.copytree(self.folder / "template", root)
        return root

    def _child(self, root: Path, options: list[str], log: Path | None = None) -> subprocess.CompletedProcess[str]:
        # No --seccomp-bpf: strace loses an injected signal at its stops.
        strace = ["strace", "-f", "-qq", "-o", str(log), *options] if log else []
        command = [*strace, sys.executable, "-S", str(Path(crash_child.__file__)), self.scenario, str(root), self.defect]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLP_"))}
        environment |= {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONHASHSEED": "0", "TMPDIR": self.elsewhere}
        # Modules are compiled once, outside the tree, so that every run makes the same calls.
        environment |= {"PYTHONPYCACHEPREFIX": str(self.folder / "pyc")} | ({"PYTHONDONTWRITEBYTECODE": "1"} if log else {})
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def _touching(log: Path, *roots: str) -> Iterator[Call]:
    counts: Counter[str] = Counter()
    inside = False
    for line in log.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        counts[found["name"]] += 1
        inside = (inside or crash_child.BEGIN in line) and crash_child.END not in line
        if inside and any(root in found["arguments"] for root in roots):
            yield Call(found["name"], counts[found["name"]], found["arguments"], found["result"] not in ("-1", "?"))


def _unsynced(calls: list[Call], folder: Path) -> Iterator[str]:
    bytes_pending: set[str] = set()  # written, not synced
    names_pending: set[str] = set()  # made or renamed, their folder not synced
    for call in calls:
        if not call.ok or ("records.db" in call.arguments and call.name not in _SYNCS):  # SQLite keeps its own promises
            continue
        path = call.path
        if call.name in _WRITES or (call.name == "openat" and "O_CREAT" in call.arguments):
            bytes_pending.add(path)
        if call.name == "mkdir" or (call.name == "openat" and "O_CREAT" in call.arguments):
            names_pending.add(path)
        if call.name in _SYNCS:
            bytes_pending.discard(path)
            names_pending = {name for name in names_pending if os.path.dirname(name) != path}
        if call.name == "rename":
            old = _PATHS.findall(call.arguments)[0]
            early = [
                name for name in bytes_pending | names_pending if (name == old and name in bytes_pending) or name.startswith(old + "/")
            ]
            yield from (f"{os.path.basename(path)} was renamed before {_short(name, folder)} was synced" for name in early)
            names_pending = {name for name in names_pending if name != old and not name.startswith(old + "/")} | {path}
            bytes_pending = {name for name in bytes_pending if name != old and not name.startswith(old + "/")}
        if call.name in ("unlink", "rmdir", "unlinkat"):
            names_pending.discard(path)
            bytes_pending.discard(path)
    yield from (f"the bytes of {_short(name, folder)} were never synced" for name in sorted(bytes_pending) if "/.mlp-tmp-" not in name)
    yield from (
        f"the name {_short(name, folder)} was never synced in its folder" for name in sorted(names_pending) if "/.mlp-tmp-" not in name
    )


def _short(path: str, folder: Path) -> str:
    return re.sub(r"\.mlp-tmp-\w+", "TEMPORARY", os.path.relpath(path, folder / "dry"))


def places() -> dict[str, Path]:
    """Filesystems to sweep on: where temporary files go, and memory where there is such."""
    found = {"disk": Path(tempfile.gettempdir())}
    memory = Path("/dev/shm")
    return {**found, "memory": memory} if memory.is_dir() and os.access(memory, os.W_OK) else found


def main(quick: bool) -> int:
    """Print the table of all scenarios, and what the sweep says of known defects; 1 when a promise is broken."""
    wrong: list[str] = []
    print(f"{'publication':<14}{'on':<8}{'calls':>6}{'killed':>8}{'old':>6}{'new':>6}{'torn':>6}{'failed':>8}{'wrong':>7}{'unsynced':>10}")
    for scenario in SCENARIOS:
        for name, folder in places().items():
            sweep = Sweep(scenario, folder)
            kills, refused, unsynced = sweep.kills(quick), sweep.refused(quick), sweep.promises()
            wrong += kills.wrong + refused.wrong + unsynced
            counts = (
                f"{kills.found['old']:>6}{kills.found['new']:>6}{kills.found['wrong']:>6}{refused.points:>8}{refused.found['wrong']:>7}"
            )
            print(f"{scenario:<14}{name:<8}{len(sweep.calls):>6}{kills.points:>8}{counts}{len(unsynced):>10}", flush=True)
            sweep.close()
    print("\nThe same with a defect put in on purpose:")
    for defect, scenario in CAUGHT_BY.items():
        sweep = Sweep(scenario, list(places().values())[-1], defect)
        seen = sweep.seen_wrong()
        sweep.close()
        print(f"  {defect}: {len(seen)} broken, like\n      {seen[0] if seen else 'NOT SEEN'}")
        wrong += [] if seen else [f"the sweep does not see: {defect}"]
    print("\n".join(["", *wrong[:20], f"{len(wrong)} in all"]) if wrong else "\nNo promise is broken.")
    return 1 if wrong else 0


if __name__ == "__main__":
    if shutil.which("strace") is None:
        sys.exit("This needs strace: apt-get install strace")
    sys.exit(main("--quick" in sys.argv))
