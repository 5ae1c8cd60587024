"""Random lives of a lake, with kills between any two lines: nothing that is held is ever lost, and nothing else stays.

each step       write, append, derive, snapshot, pin, unpin, forget, drop, compact, gc, and - past us, through the
                catalog - expire, drop and purge; in a process of its own, which may be killed at any line of the store,
                of pyiceberg's commit, or of the clean-up
after each      every version that a record holds is read through its Iceberg tag's snapshot: same rows as were written
after each gc   bytes said to be free = bytes that are gone from a walk over all files; the files that are left are
                exactly those that the records and the tables' own metadata reach, found without our code

python tests/pins_proof.py [--sequences 500] [--seed 1]      prints the counts
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import os
import pickle
import random
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import read_manifest_list

sys.path.insert(0, str(Path(__file__).parent.parent))

import jupyter_mlp as mlp
from jupyter_mlp import downstream, housekeeping  # noqa: F401  # loaded before the fork
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import collection, compaction, datasets, jobs, lake, sources, table_versions  # noqa: F401
from jupyter_mlp.store.workspace import current

TRACED = ("/jupyter_mlp/", "/pyiceberg/catalog/", "/pyiceberg/table/")
KILLED = object()
_STATUS = 9
STEPS: dict[str, float] = {
    "write": 3, "append": 2, "derive": 5, "snapshot": 2, "pin": 2, "unpin": 1.5, "forget": 4, "cascade": 1, "drop": 0.7, "compact": 1.5,
    "gc": 4, "rules": 0.7, "outside expire": 1.5, "outside drop": 0.7, "outside append": 2,
}  # fmt: skip


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True)
class Freed:
    """What a clean-up said."""

    bytes: int


class Life:
    """One sequence in a workspace of its own."""

    def __init__(self, folder: Path, seed: int, counts: Counter[str]) -> None:
        self.root = folder / "workspace"
        self.random = random.Random(seed)
        self.counts = counts
        self.rows: dict[str, list[int]] = {}  # exact reference -> the numbers it must hold
        self.next = 0
        self.freed = 0

    def run(self, steps: int) -> None:
        """Take some steps, one of three of them killed somewhere, then clean up twice."""
        for first in ("write", "derive", "snapshot"):
            self.step(first, False)
        names, weights = list(STEPS), list(STEPS.values())
        for _ in range(steps):
            self.step(self.random.choices(names, weights)[0], self.random.random() < 0.35)
        self.step("gc", False)
        before = files(self.root)
        self.step("gc", False)
        if set(before) != set(files(self.root)):
            raise Broken(f"a second clean-up found more: {set(before) ^ set(files(self.root))}")

    def step(self, name: str, killed: bool) -> None:
        """Take one step and look at everything afterwards."""
        done, expected = self.choose(name)
        if done is None:
            return
        if name in ("gc", "rules"):
            time.sleep(0.06)  # what is younger than the clock's tick is left alone
        before = files(self.root)
        line = int(2 ** self.random.uniform(3, 13.5)) if killed else 0
        told = in_child(done, line)
        self.counts[name] += 1
        self.counts["killed" if told is KILLED else "refused" if isinstance(told, str) else "done"] += 1
        after = files(self.root)
        self.look(expected)
        if name in ("gc", "rules") and isinstance(told, Freed):
            gone = sum(size for path, size in before.items() if path not in after)
            if told.bytes != gone:
                raise Broken(f"{name} said {told.bytes} bytes, {gone} are gone")
            self.freed += gone
            self.counts["clean-ups counted"] += 1
            self.exact()

    def choose(self, name: str) -> tuple[Callable[[], Any] | None, list[int]]:
        """Return what a step does, and the numbers that a version it makes must hold."""
        standing = [ref for ref in made(self.root) if ref in self.rows]
        usable = sorted({*standing, *(ref for ref in heads(self.root) if ref in self.rows)})
        tables = sorted({ref.split("@")[0].split(":")[1] for ref in standing if ref.startswith("table:")})
        chosen = self.random.choice(standing) if standing else None
        self.next += 1
        number = self.next
        if name == "write" or (name == "append" and not tables):
            table = f"lake.t{self.random.randint(0, 2)}"
            return lambda: write(table, number, False), [number]
        if name == "append":
            table = self.random.choice(tables)
            newest = head(self.root, table)
            base = self.rows.get(f"table:{table}@{newest}")
            return (lambda: write(table, number, True), [*base, number]) if base is not None else (None, [])
        if name == "derive" and chosen:
            dataset = f"d{self.random.randint(0, 2)}"
            used = self.random.sample(usable, min(len(usable), self.random.randint(1, 2)))
            return lambda: derive(dataset, used, number), [number]
        if name == "snapshot" and chosen:
            used = self.random.sample(standing, min(len(standing), self.random.randint(1, 3)))
            return lambda: snapshot(used, number), []
        if name == "pin" and chosen:
            return lambda: str(mlp.pin(chosen)) and None, []
        if name == "unpin":
            pins = [ref for ref in made(self.root) if ref.startswith(("pin:", "snapshot:"))]
            return (lambda: mlp.forget(self.random.choice(pins)) and None, []) if pins else (None, [])
        if name in ("forget", "cascade") and chosen:
            return lambda: mlp.forget(chosen, cascade=name == "cascade") and None, []
        if name == "drop" and tables:
            return lambda: mlp.forget(self.random.choice(tables), all=True, cascade=self.random.random() < 0.5) and None, []
        if name == "compact" and tables:
            table = self.random.choice(tables)
            base = self.rows.get(f"table:{table}@{head(self.root, table)}")
            return lambda: mlp.compact(table) and None, base or []
        if name == "gc":
            return lambda: Freed(mlp.gc(yes=True).freed), []
        if name == "rules":
            return self.rules, []
        if name == "outside append" and tables:
            table = self.random.choice(tables)
            base = self.rows.get(f"table:{table}@{head(self.root, table)}")
            return (lambda: outside_append(table, number), [*base, number]) if base is not None else (None, [])
        if name.startswith("outside") and tables:
            table = self.random.choice(tables)
            return lambda: outside(name, table, self.random.random() < 0.5), []
        return None, []

    def rules(self) -> Freed:
        """A clean-up by age or by size."""
        os.environ |= {"MLP_KEEP_DAYS": "1e-9"} if self.random.random() < 0.5 else {"MLP_KEEP_GB": "0.000004"}
        return Freed(mlp.gc(yes=True).freed)

    def look(self, expected: list[int]) -> None:
        """Read everything that is held; a version that was not known before is what the last step made."""
        for ref in heads(self.root) - self.rows.keys():
            self.rows[ref] = expected  # written past us, or by one who was killed before the record
        for ref in held(self.root):
            if not ref.startswith(("table:", "dataset:")):
                continue
            if ref not in self.rows:
                self.rows[ref] = expected
            found = read(self.root, ref)
            self.counts["reads of held versions"] += 1
            if digest(found) != digest(self.rows[ref]):
                raise Broken(f"{ref} holds {sorted(found)}, not {sorted(self.rows[ref])}")

    def exact(self) -> None:
        """After a clean-up there is exactly what is reached."""
        left, reached = set(files(self.root)), reachable(self.root)
        if left != reached:
            raise Broken(f"left without need: {sorted(left - reached)}; lost: {sorted(reached - left)}")


# -- what the steps do, in the child


def write(table: str, number: int, append: bool) -> None:
    mlp.write_table(table, frame(number), append=append)


def frame(number: int) -> pa.Table:
    return pa.table({"n": [number] * 20, "text": [f"row {index}" for index in range(20)]})


def derive(name: str, used: list[str], number: int) -> None:
    workspace = current()
    refs = [Ref.parse(one) for one in used]
    with workspace.activities.recording("query", name=name, used=refs) as draft:
        for ref in refs:
            table_versions.protect(workspace.lake, ref)  # as a query does before it reads
        datasets.publish_table(workspace, draft, name, frame(number))


def snapshot(used: list[str], number: int) -> None:
    workspace = current()
    page = workspace.artifacts.put(f"notebook {number}".encode())
    manifest = workspace.artifacts.put(json.dumps({"notebook": page}).encode())
    with workspace.activities.recording("snapshot", used=[Ref.parse(one) for one in used]) as draft:
        draft.facts["manifest"] = manifest
        draft.made.append(Ref("snapshot", manifest[:32]))


def outside_append(table: str, number: int) -> None:
    current().lake.catalog.load_table(table).append(frame(number))


def outside(how: str, table: str, purge: bool) -> None:
    """What somebody does who knows nothing of us, through a catalog of their own."""
    import datetime

    from pyiceberg.catalog.sql import SqlCatalog

    root = current().root / "lake"
    catalog = SqlCatalog("mlp", uri=f"sqlite:///{root / 'catalog.db'}", warehouse=root.as_uri())
    if how == "outside expire":
        tomorrow = datetime.datetime.now() + datetime.timedelta(days=1)
        catalog.load_table(table).maintenance.expire_snapshots().older_than(tomorrow).commit()
        return
    try:
        (catalog.purge_table if purge else catalog.drop_table)(table)
    except Exception as error:
        if "versions that records refer to" not in str(error):
            raise
        return
    raise Broken(f"{table} was dropped past its records")


def in_child(step: Callable[[], Any], line: int) -> Any:
    """Take a step in a fork, killed on the `line`-th line of code that counts: KILLED where it was, text for a refusal."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        status = 0
        try:
            if line:
                sys.settrace(Killer(line).trace)
            try:
                told = step()
            except MLPError as refusal:
                told = f"{type(refusal).__name__}: {refusal.message}"
            sys.settrace(None)
            os.write(into, pickle.dumps(told))
        except BaseException:  # noqa: BLE001  # told to the parent, whatever it is
            sys.settrace(None)
            os.write(into, pickle.dumps(Broken(traceback.format_exc())))
            status = 1
        os._exit(status)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == _STATUS:
        return KILLED
    told = pickle.loads(data)
    if isinstance(told, Exception):
        raise told
    return told


class Killer:
    """Counts the lines that are run of the code that counts, and ends the process at one of them, without any clean-up."""

    def __init__(self, line: int) -> None:
        self.left = line

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self.each if any(part in frame.f_code.co_filename for part in TRACED) else None

    def each(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.left -= event == "line"
        if self.left <= 0:
            os._exit(_STATUS)
        return self.each


# -- what is seen, without any of our code


def files(root: Path) -> dict[str, int]:
    """Every file that counts, and its bytes."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            parts = Path(path).relative_to(root).parts
            if parts[0] in ("lake", "artifacts", "runs", "models") and not parts[-1].startswith("catalog.db") and ".queues" not in parts:
                found[path] = os.path.getsize(path)
    return found


def rows_of(path: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()


def made(root: Path) -> list[str]:
    """The references that stand."""
    found = rows_of(root / "records.db", "SELECT DISTINCT kind, name, version FROM edges WHERE role = 'made' ORDER BY seq")
    return [str(Ref(kind, name, version or None)) for kind, name, version in found]


def held(root: Path) -> set[str]:
    """What stands, and what a record uses that has itself something standing."""
    sql = """SELECT kind, name, version FROM edges u WHERE role = 'used' AND EXISTS
        (SELECT 1 FROM edges m WHERE m.activity = u.activity AND m.role = 'made'
         AND NOT (m.kind = 'table' AND u.kind = 'table' AND m.name = u.name))"""
    return {*made(root), *(str(Ref(kind, name, version or None)) for kind, name, version in rows_of(root / "records.db", sql))}


def facts_of(root: Path, ref: str) -> dict[str, Any]:
    asked = Ref.parse(ref)
    sql = """SELECT facts FROM activities a JOIN edges e ON e.activity = a.id
        WHERE e.kind = ? AND e.name = ? AND e.version = ? AND e.role IN ('made', 'forgotten')"""
    found: dict[str, Any] = json.loads(rows_of(root / "records.db", sql, asked.kind, asked.name, asked.version or "")[0][0])
    return found


def metadata(root: Path, table: str) -> dict[str, Any] | None:
    space, name = table.split(".")
    sql = "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?"
    found = rows_of(root / "lake" / "catalog.db", sql, space, name)
    if not found:
        return None
    told: dict[str, Any] = json.loads(Path(path_of(found[0][0])).read_text())
    return {**told, "here": found[0][0]}


def path_of(uri: str) -> str:
    return unquote(urlparse(uri).path) if uri.startswith("file:") else uri


def head(root: Path, table: str) -> str:
    found = metadata(root, table)
    return str(found.get("current-snapshot-id") or "") if found else ""


def heads(root: Path) -> set[str]:
    """What the names of the tables mean."""
    spaces = rows_of(root / "lake" / "catalog.db", "SELECT table_namespace || '.' || table_name FROM iceberg_tables")
    found = {table: head(root, table) for (table,) in spaces if not table.startswith("datasets.")}
    return {f"table:{table}@{version}" for table, version in found.items() if version and version != "None"}


def parts_of(manifest_list: str) -> tuple[set[str], set[str]]:
    """(manifests, data files) of a snapshot; what never changes is decoded once, and looked for each time."""
    manifests, data = decoded(manifest_list)
    gone = [path for path in [path_of(manifest_list), *manifests, *data] if not os.path.exists(path)]
    if gone:
        raise Broken(f"gone: {gone}")
    return manifests, data


@lru_cache(maxsize=4096)
def decoded(manifest_list: str) -> tuple[set[str], set[str]]:
    io = PyArrowFileIO()
    manifests = list(read_manifest_list(io.new_input(manifest_list)))
    data = {path_of(entry.data_file.file_path) for one in manifests for entry in one.fetch_manifest_entry(io)}
    return {path_of(one.manifest_path) for one in manifests}, data


def read(root: Path, ref: str) -> list[int]:
    """The numbers that a version holds."""
    asked = Ref.parse(ref)
    if asked.kind == "dataset":
        told = facts_of(root, ref)["dataset"]
        paths = {str(root / name) for name in told["files"]}
        table, version = told["table"], str(told["snapshot"])
    else:
        table, version, paths = asked.name, str(asked.version), set()
    found = metadata(root, table)
    snapshots = {str(one["snapshot-id"]): one for one in (found or {}).get("snapshots", ())}
    if version not in snapshots:
        raise Broken(f"{ref} is held, and its version {version} is gone from {table}")
    if asked.kind == "table" and not any(
        str(one["snapshot-id"]) == version and one["type"] == "tag" for one in found.get("refs", {}).values()
    ):  # type: ignore[index]
        raise Broken(f"{ref} is held and has no tag")
    data = parts_of(snapshots[version]["manifest-list"])[1]
    if paths and data != paths:
        raise Broken(f"{ref} has other files in its table than on record")
    numbers: list[int] = []
    for path in sorted(data):
        numbers += pq.read_table(path, columns=["n"], use_threads=False, partitioning=None).column("n").to_pylist()[::20]
    return numbers


def digest(numbers: list[int]) -> str:
    return hashlib.sha256(json.dumps(sorted(numbers)).encode()).hexdigest()


def reachable(root: Path) -> set[str]:
    """All files that the records and the tables' own metadata name."""
    found: set[str] = set()
    tables = rows_of(root / "lake" / "catalog.db", "SELECT table_namespace || '.' || table_name FROM iceberg_tables")
    wanted = {ref for ref in held(root) if ref.startswith("table:")}
    for (table,) in tables:
        told = metadata(root, table)
        assert told is not None
        found |= {path_of(told["here"]), *(path_of(one["metadata-file"]) for one in told.get("metadata-log", ()))}
        for one in told.get("snapshots", ()):
            name = f"table:{table}@{one['snapshot-id']}"
            if not table.startswith("datasets.") and name not in wanted and one["snapshot-id"] != told.get("current-snapshot-id"):
                raise Broken(f"{name} stays and nobody holds it")
            manifests, data = parts_of(one["manifest-list"])
            found |= {path_of(one["manifest-list"]), *manifests, *data}
    datasets_ = {str(root / name) for ref in held(root) if ref.startswith("dataset:") for name in facts_of(root, ref)["dataset"]["files"]}
    kept = {path for path in found if "/lake/datasets/" in path and path.endswith(".parquet")}
    if kept != datasets_:
        raise Broken(f"versions of datasets that nobody holds: {kept ^ datasets_}")
    for ref in made(root):
        if ref.startswith("snapshot:"):
            manifest = facts_of_snapshot(root, ref)
            page = json.loads((root / "artifacts" / manifest[:2] / manifest).read_text())["notebook"]
            found |= {str(root / "artifacts" / one[:2] / one) for one in (manifest, page)}
    return found


def facts_of_snapshot(root: Path, ref: str) -> str:
    return str(facts_of(root, ref)["manifest"])


def main() -> int:
    """Live many lives and print what was seen; 1 where a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=500)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder of a life that broke")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    begun, freed, broken = time.perf_counter(), 0, 0
    for number in range(given.sequences):
        lived, problem = live(given.seed * 1_000_000 + number, given.steps, counts, given.keep)
        freed += lived
        if problem:
            broken += 1
            print(f"sequence {given.seed * 1_000_000 + number}: {problem}", flush=True)
        if number % 50 == 49:
            print(f"  {number + 1} sequences, {time.perf_counter() - begun:.0f} s", flush=True)
    print(
        f"{given.sequences} sequences of {given.steps} steps in {time.perf_counter() - begun:.0f} s, {broken} broken; {freed:,} bytes freed"
    )
    print(", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
    return 1 if broken else 0


def place() -> str | None:
    """Memory, where there is a filesystem of it: a kill shows the order of things, not whether they survive a power cut."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@cache
def template() -> Path:
    """An empty workspace whose databases are made; making one loads all modules too, so that no child has to."""
    folder = Path(tempfile.mkdtemp(prefix="pins-template-", dir=place()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"MLP_WORKSPACE": str(folder / "warm"), "MLP_GC_GRACE_S": "0"}
    workspace = current()
    mlp.write_table("lake.t0", frame(0))
    mlp.write_table("lake.t0", frame(0), append=True)
    mlp.compact("lake.t0")
    derive("d0", [str(Ref("table", "lake.t0", workspace.lake.current("lake.t0")))], 0)
    mlp.gc(yes=True)
    mlp.forget("lake.t0", all=True, cascade=True)
    workspace.lake.catalog.engine.dispose()  # no child may inherit an open database
    shutil.rmtree(folder / "warm")
    os.environ["MLP_WORKSPACE"] = str(folder / "life" / "workspace")
    current().activities.recent()
    return folder


def live(seed: int, steps: int, counts: Counter[str], keep: bool = False) -> tuple[int, str]:
    """One life; return the bytes it freed and what broke, if anything."""
    folder = Path(tempfile.mkdtemp(prefix="pins-", dir=place()))
    shutil.copytree(template() / "life", folder, dirs_exist_ok=True)
    os.environ |= {"MLP_WORKSPACE": str(folder / "workspace"), "MLP_GC_GRACE_S": "0"}
    one = Life(folder, seed, counts)
    try:
        one.run(steps)
    except Broken as broken:
        return one.freed, f"{broken}" + (f" in {folder}" if keep else "")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return one.freed, ""


if __name__ == "__main__":
    sys.exit(main())
