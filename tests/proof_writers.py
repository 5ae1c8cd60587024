"""Many processes write the same table and the same dataset name at once; an independent reader then looks for what is lost.

each writer      appends one row, (writer, number), to the table `lake.ledger`, or publishes it as a version of `ledger`
the reader       asks SQLite or Postgres itself for the pointer and the records, reads the metadata as JSON and the rows
                 with pyiceberg's reader of plain files, and knows nothing of our code

python tests/proof_writers.py [--writers 16] [--commits 200] [--databases sqlite,postgres] [--things "table dataset"]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]


@dataclass(frozen=True)
class Outcome:
    """What the reader found: nothing in `wrong` means gapless, linear, nothing lost and nothing doubled."""

    what: str
    versions: int
    seconds: float
    slowest_s: float  # the longest that one commit took, its wait for the others included
    spread: float  # the first writer's end over the last's: 1 where all got their turns alike
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        verdict = "gapless, linear, 0 lost, 0 doubled" if not self.wrong else "; ".join(self.wrong)
        rate = self.versions / self.seconds
        return (
            f"{self.what:<20} {self.versions:>5} versions in {self.seconds:7.1f} s ({rate:5.1f}/s), "
            f"slowest commit {self.slowest_s:5.1f} s, first/last writer done {self.spread:.2f}: {verdict}"
        )


def write(things: Sequence[str], writer: int, commits: int) -> None:
    """Be one writer: commit after commit; print how long the slowest took."""
    import pyarrow as pa

    import jupyter_mlp as mlp
    from jupyter_mlp.store import datasets
    from jupyter_mlp.store.workspace import current

    slowest = 0.0
    for number in range(commits):
        rows = pa.table({"writer": [writer], "number": [number]})
        for thing in things:
            begun = time.monotonic()
            if thing == "table":
                mlp.write_table("lake.ledger", rows, append=True)
            else:
                with current().activities.recording("query", name="ledger") as draft:
                    datasets.publish_table(current(), draft, "ledger", rows)
            slowest = max(slowest, time.monotonic() - begun)
    print(json.dumps({"slowest": slowest, "ended": time.time()}))


def prove(things: Sequence[str], database: str, writers: int, commits: int, url: str = "") -> Outcome:
    """Let the writers loose on an empty workspace and read what they left."""
    versions = writers * commits * len(things)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLP_WORKSPACE": folder, "MLP_DATABASE": url}
        if not url:
            del environment["MLP_DATABASE"]
        command = [sys.executable, __file__, "--be", ",".join(things), "--commits", str(commits)]
        began, wall = time.monotonic(), time.time()
        running = [
            subprocess.Popen([*command, "--number", str(n)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for n in range(writers)
        ]
        said = [process.communicate() for process in running]
        seconds = time.monotonic() - began
        told = [json.loads(out.splitlines()[-1]) for out, _ in said if out]
        wrong = [f"a writer failed: {(error.strip() or '?').splitlines()[-1]}" for (out, error) in said if not out]
        with _rows_of(Path(folder), url) as ask:
            expected = {(writer, number) for writer in range(writers) for number in range(commits)}
            wrong += [f"{thing}: {one}" for thing in things for one in _look(thing, ask, expected)]
            if [seq for (seq,) in ask("records", "SELECT seq FROM activities ORDER BY seq")] != list(range(1, versions + 1)):
                wrong.append("the order of records has gaps or doubles")
        ends = [one["ended"] - wall for one in told] or [1.0]
        slowest = max((one["slowest"] for one in told), default=0.0)
        what = f"{' and '.join(things)} on {database}"
        return Outcome(what, versions, seconds, slowest, min(ends) / max(ends), tuple(wrong))


@contextlib.contextmanager
def _rows_of(folder: Path, url: str) -> Iterator[Any]:
    """A question to the databases themselves: to the records, or to the catalog."""
    if url:
        import psycopg

        with psycopg.connect(url) as connection:
            yield lambda which, sql: connection.execute(sql).fetchall()
    else:
        files = {"records": folder / "records.db", "catalog": folder / "lake" / "catalog.db"}
        with contextlib.ExitStack() as stack:
            open_ = {which: stack.enter_context(contextlib.closing(sqlite3.connect(path))) for which, path in files.items()}
            yield lambda which, sql: open_[which].execute(sql).fetchall()


def _look(thing: str, ask: Any, expected: set[tuple[int, int]]) -> list[str]:
    from pyiceberg.table import StaticTable

    space = "lake" if thing == "table" else "datasets"
    pointers = ask("catalog", f"SELECT metadata_location FROM iceberg_tables WHERE table_namespace = '{space}'")
    if len(pointers) != 1:
        return [f"{len(pointers)} tables where there is one"]
    metadata = json.loads(Path(unquote(urlparse(pointers[0][0]).path)).read_text())
    wrong = _chain(metadata, len(expected))
    table = StaticTable.from_metadata(pointers[0][0])
    order = [one["snapshot-id"] for one in sorted(metadata["snapshots"], key=lambda one: one["sequence-number"])]
    look = _look_at_table if thing == "table" else _look_at_dataset
    return wrong + look(ask, table, order, expected)


def _look_at_table(ask: Any, table: Any, order: list[int], expected: set[tuple[int, int]]) -> list[str]:
    wrong = _compare(Counter(_pairs(table.scan().to_arrow())), expected)
    for place in {len(order) // 3, 2 * len(order) // 3}:  # an old version still has exactly its rows
        found = table.scan(snapshot_id=order[place]).to_arrow().num_rows
        wrong += [f"version {place + 1} has {found} rows"] if found != place + 1 else []
    made = ask("records", "SELECT version FROM edges WHERE role = 'made' AND kind = 'table'")
    wrong += ["the records name other versions than the table has"] if sorted(int(v) for (v,) in made) != sorted(order) else []
    bases = "SELECT m.version, u.version FROM edges m JOIN edges u ON u.activity = m.activity AND u.role = 'used' AND u.kind = 'table'"
    after = {int(version): int(base) for version, base in ask("records", bases + " WHERE m.role = 'made' AND m.kind = 'table'")}
    wrong += ["a record names another base than the version came after"] if after != dict(zip(order[1:], order, strict=False)) else []
    return wrong


def _look_at_dataset(ask: Any, table: Any, order: list[int], expected: set[tuple[int, int]]) -> list[str]:
    rows: Counter[tuple[int, int]] = Counter()
    for snapshot in order:
        rows.update(_pairs(table.scan(snapshot_id=snapshot).to_arrow()))
    wrong = _compare(rows, expected)
    made = ask("records", "SELECT version FROM edges WHERE role = 'made' AND kind = 'dataset' AND name = 'ledger'")
    if len(set(made)) != len(made) or len(made) != len(expected):
        wrong.append(f"{len(made)} records of {len(set(made))} versions, {len(expected)} expected")
    facts = [json.loads(one)["dataset"]["snapshot"] for (one,) in ask("records", "SELECT facts FROM activities WHERE kind = 'query'")]
    wrong += ["the records name other versions than the table has"] if sorted(map(int, facts)) != sorted(order) else []
    return wrong


def _chain(metadata: dict[str, Any], expected: int) -> list[str]:
    """What is wrong with the order of versions: parents, sequence numbers, branch, tags."""
    wrong = []
    snapshots = sorted(metadata["snapshots"], key=lambda one: one["sequence-number"])
    if len(snapshots) != expected:
        wrong.append(f"{len(snapshots)} versions, {expected} expected")
    if [one["sequence-number"] for one in snapshots] != list(range(1, len(snapshots) + 1)):
        wrong.append("the sequence numbers have gaps or doubles")
    ids = [one["snapshot-id"] for one in snapshots]
    if [one.get("parent-snapshot-id") for one in snapshots] != [None, *ids[:-1]]:
        wrong.append("the parents are no line")
    if metadata["refs"]["main"]["snapshot-id"] != ids[-1] or metadata["current-snapshot-id"] != ids[-1]:
        wrong.append("the newest is not the last")
    if [one["snapshot-id"] for one in metadata["snapshot-log"]] != ids:
        wrong.append("the log tells another story")
    if {ref["snapshot-id"] for ref in metadata["refs"].values() if ref["type"] == "tag"} != set(ids):
        wrong.append("a version has no tag")
    return wrong


def _compare(found: Counter[tuple[int, int]], expected: set[tuple[int, int]]) -> list[str]:
    lost = len(expected - set(found))
    doubled = sum(count - 1 for count in found.values())
    return ([f"{lost} lost"] if lost else []) + ([f"{doubled} doubled"] if doubled else [])


def _pairs(rows: Any) -> list[tuple[int, int]]:
    return list(zip(rows["writer"].to_pylist(), rows["number"].to_pylist(), strict=True))


def main() -> int:
    """Print a line for each thing on each database; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--things", default="table dataset", help="one after the other; table,dataset: the same writers write both")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be:
        write(given.be.split(","), given.number, given.commits)
        return 0
    import postgres

    bad = 0
    databases = given.databases.split(",")
    with postgres.running(durable=True) if "postgres" in databases else contextlib.nullcontext() as server:
        for database in databases:
            for things in given.things.split():
                url = server.make() if server and database == "postgres" else ""
                found = prove(things.split(","), database, given.writers, given.commits, url)
                bad += bool(found.wrong)
                print(found, flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
