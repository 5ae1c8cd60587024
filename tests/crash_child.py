"""One publication, done by a process that tests/crash_sweep.py kills at every system call of it.

    python -S tests/crash_child.py SCENARIO FOLDER [DEFECT]

It imports the store only (no site-packages), looks at two marked paths around the publication so that a trace shows
where it begins and ends, and prints how it ended. A DEFECT breaks the store on purpose: the sweep must see it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

BEGIN, END = "/mlp-publication-begins", "/mlp-publication-ends"
OLD = b"old " * 5_000
NEW = b"new!" * 50_000
FILES = {"model.json": b'{"uuid": "1f3c"}', "weights.bin": NEW, "code/module.py": b"class Model: ..."}
THEIRS = {"model.json": b"theirs"}


def prepare(scenario: str, root: Path) -> None:
    """Make what stands in the folder before the publication."""
    root.mkdir(parents=True)
    if scenario == "bytes":
        (root / "card.json").write_bytes(OLD)
    if scenario == "folder-again":
        _fill(root / "model", THEIRS)
    if scenario == "record":
        from jupyter_mlp.store.workspace import Workspace

        Workspace(root).activities.recent()  # makes the database


def perform(scenario: str, root: Path) -> None:
    """Publish."""
    from jupyter_mlp.store import artifacts

    if scenario == "bytes":
        artifacts.publish_bytes(root / "card.json", NEW)
    elif scenario == "file":
        artifacts.publish_file(root / "deep" / "er" / "part.bin", _in_pieces)
    elif scenario in ("folder", "folder-again"):
        artifacts.publish_folder(root / "model", lambda folder: _fill(folder, FILES))
    elif scenario == "record":
        _record(root)
    else:
        raise SystemExit(f"no scenario {scenario}")


def seen(scenario: str, root: Path) -> str:
    """What a reader finds: `old`, `new`, or what is torn."""
    if scenario == "bytes":
        return _which((root / "card.json").read_bytes(), OLD, NEW)
    if scenario == "file":
        part = root / "deep" / "er" / "part.bin"
        return _which(part.read_bytes() if part.exists() else b"", b"", NEW)
    if scenario == "folder":
        model = root / "model"
        return _which(_files(model) if model.exists() else None, None, FILES)
    if scenario == "folder-again":
        return _which(_files(root / "model"), THEIRS, None)
    return _seen_record(root)


def _seen_record(root: Path) -> str:
    import sqlite3

    from jupyter_mlp.core.errors import StorageError
    from jupyter_mlp.store.activities import CELL_ID, PROCESS
    from jupyter_mlp.store.workspace import Workspace

    with sqlite3.connect(root / "records.db") as raw:
        health = raw.execute("PRAGMA integrity_check").fetchone()[0]
    if health != "ok":
        return f"torn: {health}"
    workspace = Workspace(root)
    newest = workspace.activities.newest("dataset", "trips")
    found = workspace.activities.recent()
    if newest is None:
        return (
            "old"
            if all(a.state in ("running", "failed") and not a.made and a.facts.keys() <= {PROCESS, CELL_ID} for a in found)
            else f"torn: {found}"
        )
    maker = workspace.activities.maker(newest)
    whole = maker is not None and maker.state == "finished" and maker.facts == {"rows": 3} and len(maker.used) == 1 and len(maker.made) == 1
    try:
        data = workspace.artifacts.get(newest.version or "")
    except StorageError as error:
        return f"torn: recorded, but {error.message}"
    return "new" if whole and data == NEW else f"torn: {maker}"


def _record(root: Path) -> None:
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.store.workspace import Workspace

    workspace = Workspace(root)
    with workspace.activities.recording("query", name="trips", used=[Ref("table", "lake.flights", "1")]) as draft:
        draft.facts["rows"] = 3
        draft.made.append(Ref("dataset", "trips", workspace.artifacts.put(NEW)))


def _in_pieces(path: Path) -> None:
    with path.open("wb", buffering=0) as handle:
        for start in range(0, len(NEW), len(NEW) // 4):
            handle.write(NEW[start : start + len(NEW) // 4])


def _fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _which(found: object, old: object, new: object) -> str:
    return "old" if found == old else "new" if found == new else f"torn: {str(found)[:80]}"


# -- defects: each breaks one sentence of the store's promise


def _no_fsync() -> None:
    from jupyter_mlp.store import artifacts

    artifacts._synced = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()  # type: ignore[assignment]


def _no_folder_fsync() -> None:
    from jupyter_mlp.store import artifacts

    artifacts._sync_folder = lambda folder: None  # type: ignore[assignment]


def _in_place() -> None:
    from jupyter_mlp.store import artifacts

    artifacts._beside = lambda target: target  # type: ignore[assignment]


def _move_from_elsewhere() -> None:
    """What fsspec's local transaction does: a temporary file on another filesystem, then shutil.move."""
    from jupyter_mlp.store import artifacts

    artifacts._beside = lambda target: Path(tempfile.gettempdir(), f".mlp-tmp-{os.getpid()}")  # type: ignore[assignment]
    artifacts.os = type("Moving", (), {"__getattr__": lambda _, name: getattr(os, name), "replace": staticmethod(shutil.move)})()  # type: ignore[attr-defined]


def _record_first() -> None:
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.store.workspace import Workspace

    def record(root: Path) -> None:
        workspace = Workspace(root)
        with workspace.activities.recording("query", name="trips", used=[Ref("table", "lake.flights", "1")]) as draft:
            draft.facts["rows"] = 3
            draft.made.append(Ref("dataset", "trips", hashlib.sha256(NEW).hexdigest()))
        workspace.artifacts.put(NEW)

    globals()["_record"] = record


DEFECTS: dict[str, Callable[[], None]] = {
    "no fsync": _no_fsync,
    "no fsync of the folder": _no_folder_fsync,
    "written in place": _in_place,
    "moved from another filesystem": _move_from_elsewhere,
    "record first": _record_first,
}


def main(scenario: str, root: str, defect: str = "") -> int:
    """Publish between the two marks."""
    import jupyter_mlp.store.artifacts
    from jupyter_mlp.core.errors import StorageError

    if scenario == "record":
        import jupyter_mlp.store.workspace  # noqa: F401  # all imports lie before the mark
    if defect:
        DEFECTS[defect]()
    os.path.exists(BEGIN)
    try:
        perform(scenario, Path(root))
    except StorageError as error:
        os.path.exists(END)
        print(f"StorageError\n{error}")
        return 3
    os.path.exists(END)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
