"""Keep what matters, free the rest: pins, forgetting, compaction, and the garbage collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table, size_text
from jupyter_mlp.core.entities import CANCELLED, FAILED
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, NotFoundError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import deployments, holders, modes, table_versions
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.collection import Collection, collect
from jupyter_mlp.store.compaction import Compaction
from jupyter_mlp.store.workspace import Workspace, current

_SHOWN = 12


@dataclass(frozen=True, repr=False)
class Garbage(Shown):
    """What a garbage collection found and, unless it was a dry run, removed."""

    found: Collection

    @property
    def ref(self) -> str:
        """A clean-up has no reference."""
        return ""

    @property
    def freed(self) -> int:
        """Bytes that became free; 0 in a dry run."""
        return self.found.freed

    @property
    def bytes(self) -> int:
        """Bytes that go, or went."""
        return sum(item.bytes for item in self.found.items)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "kind": "garbage",
            "dry": self.found.dry,
            "bytes": self.bytes,
            "freed": self.freed,
            "files": [vars(item) for item in self.found.items],
            "expired": [str(ref) for ref in self.found.expired],
            "holders": [{"ref": str(one.ref), "bytes": one.bytes, "alone": one.alone} for one in self.found.holders],
            "kept": self.found.kept,
            "missing": list(self.found.missing),
            "seconds": round(self.found.seconds, 3),
        }

    def card(self) -> Card:
        """Return what goes by place, and who keeps the rest."""
        found = self.found
        went = f"{size_text(self.bytes)} would be free" if found.dry else f"{size_text(self.freed)} freed"
        sizes, counts = Counter[str](), Counter[str]()
        for item in found.items:
            sizes[item.why] += item.bytes
            counts[item.why] += 1
        rows = [(why, counts[why], size_text(size)) for why, size in sizes.most_common()]
        tables = [Table(["what", "files", "size"], rows)] if rows else []
        held = [(one.ref.short, size_text(one.alone), size_text(one.bytes)) for one in found.holders[:_SHOWN]]
        more = f"the {_SHOWN} largest of {len(found.holders)}" if len(found.holders) > _SHOWN else ""
        tables += [Table(["kept for", "alone", "with others"], held, more)] if held else []
        notes = ["Nothing was removed yet: mlp gc --yes does it."] if found.dry and found.items else []
        notes += [f"{one} is gone: somebody removed it past this workspace, and records refer to it." for one in found.missing]
        expired = [("expired by the rules", f"{len(found.expired)} versions")] if found.expired else []
        return Card(went, [("kept", size_text(found.kept)), *expired], tables, notes=notes)


@dataclass(frozen=True, repr=False)
class Forgotten(Shown):
    """What was released: no name finds it any more, and the next garbage collection frees its bytes."""

    refs: tuple[Ref, ...]

    @property
    def ref(self) -> str:
        """What was asked to go."""
        return str(self.refs[0]) if self.refs else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the references."""
        return {"kind": "forgotten", "refs": [str(ref) for ref in self.refs]}

    def card(self) -> Card:
        """Return what went."""
        rows = [(ref.kind, ref.short) for ref in self.refs[:_SHOWN]]
        more = f"the first {_SHOWN} of {len(self.refs)}" if len(self.refs) > _SHOWN else ""
        title = f"Forgotten: {len(self.refs)} {'thing' if len(self.refs) == 1 else 'things'}"
        return Card(title, tables=[Table(["kind", "reference"], rows, more)], notes=["mlp gc --yes frees the space."])


@dataclass(frozen=True, repr=False)
class Pin(Shown):
    """A wish to keep a version whatever the rules say; forgetting the pin ends it."""

    reference: Ref
    pinned: Ref
    reason: str

    @property
    def ref(self) -> str:
        """The pin itself, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the pin as JSON types."""
        return {"ref": self.ref, "kind": "pin", "pinned": str(self.pinned), "reason": self.reason}

    def card(self) -> Card:
        """Return what is kept and why."""
        facts = [("because", self.reason)] if self.reason else []
        return Card(f"{self.pinned.short} is kept", facts, notes=[f"mlp forget {self.ref} ends it."])


@dataclass(frozen=True, repr=False)
class Compacted(Shown):
    """A table before and after its files were written anew."""

    found: Compaction

    @property
    def ref(self) -> str:
        """The version that the table's name means now."""
        return str(self.found.ref)

    @property
    def files(self) -> tuple[int, int]:
        """Number of files before and after."""
        return self.found.files

    def to_dict(self) -> dict[str, Any]:
        """Return what changed as JSON types."""
        sizes = {"files": list(self.found.files), "bytes": list(self.found.bytes), "rows": self.found.rows}
        return {"ref": self.ref, "kind": "table", "changed": self.found.changed, **sizes}

    def card(self) -> Card:
        """Return files and bytes before and after."""
        (files, fewer), (before, after) = self.found.files, self.found.bytes
        if not self.found.changed:
            return Card(f"{self.found.ref.short}: nothing to do", [("files", files), ("size", size_text(before))])
        facts = [("files", f"{files:,} before, {fewer:,} now"), ("size", f"{size_text(before)} before, {size_text(after)} now")]
        return Card(f"{self.found.ref.short}  {self.found.rows:,} rows", facts)


def gc(*, yes: bool = False) -> Garbage:
    """Find what no record reaches, say who keeps the rest, and with `yes` remove it.

    Versions that are unused and older than `keep_days`, or beyond `keep_gb`, are released first (settings; off by default).
    What was released goes at once; what nobody recorded when it is older than `gc_grace_s` and its writer is dead.

    Args:
        yes: remove it; without it nothing changes.

    Raises:
        ConflictError: another clean-up is at work.

    Example:
        >>> mlp.gc().bytes
        1048576
    """
    return Garbage(collect(_own(), dry=not yes))


def forget(ref: str | Shown, *, cascade: bool = False, all: bool = False) -> Forgotten:
    """Release a version, run, model, snapshot ...: it is kept no longer, and no name finds it. Its record stays.

    Args:
        ref: an exact reference; a name alone means the newest.
        cascade: forget what was made of it too.
        all: every version of that name; of a table: drop it.

    Raises:
        ConflictError: something else needs it; the message lists it.
        NotFoundError: there is no such thing.

    Example:
        >>> mlp.forget("dataset:trips@1f3c9a2b", cascade=True)
    """
    workspace = _own()
    asked = _asked(workspace, named(ref))
    refs = _every_version(workspace, asked) if all else [_exact(workspace, asked)]
    _none_serves(workspace, refs)
    if not all and asked.kind == "table" and workspace.lake.current(asked.name) == refs[0].version:
        raise ConflictError(
            f"{refs[0].short} is what the name {asked.name} means.",
            f"Write another version first, or drop the table: mlp forget {asked.name} --all",
        )
    with workspace.activities.recording("forget", name=asked.name, parameters={"ref": named(ref), "cascade": cascade, "all": all}) as draft:
        gone = _release_run(workspace, asked) if _ended_badly(workspace, asked) else holders.release(workspace, refs, cascade)
        draft.facts["forgotten"] = [str(one) for one in gone]
    if all and asked.kind == "table":
        _drop_table(workspace, asked.name)
    return Forgotten(tuple(gone))


def pin(ref: str | Shown, *, reason: str = "") -> Pin:
    """Keep a version whatever the rules of the workspace say, until the pin is forgotten.

    Example:
        >>> mlp.pin("dataset:trips@1f3c9a2b", reason="in the paper")
    """
    workspace = _own()
    exact = _exact(workspace, _asked(workspace, named(ref)))
    made = Ref("pin", new_id())
    with workspace.activities.recording("pin", name=exact.name, used=[exact], parameters={"reason": reason}) as draft:
        table_versions.protect(workspace.lake, exact)
        draft.made.append(made)
    return Pin(made, exact, reason)


def compact(name: str) -> Compacted:
    """Write a table's rows into few large files, as its new version.

    The version before it stays for those who use it; once nobody does, forget or a rule of the workspace lets it go.

    Raises:
        NotFoundError: there is no such table. ConflictError: others wrote it all the time.

    Example:
        >>> mlp.compact("lake.flights").files
        (96, 1)
    """
    from jupyter_mlp.store import compaction

    workspace = _own()
    return Compacted(compaction.compact(workspace, _asked(workspace, name, "table").name))


def _own() -> Workspace:
    if modes.verifying():
        raise InvalidInputError("A verification keeps house nowhere.", "Do it in a notebook or a terminal.")
    return current()


def _asked(workspace: Workspace, text: str, kind: str | None = None) -> Ref:
    """What a text names; a name with a dot alone is a table's, one without a dataset's."""
    if ":" not in text.split("@")[0]:
        kind = kind or ("table" if "." in text.split("@")[0] else "dataset")
    found = Ref.parse(text, kind)
    if found.kind == "run":
        return Ref("run", workspace.activities.complete("train", found.name))
    if found.kind == "table" and "." not in found.name:
        return Ref("table", f"lake.{found.name}", found.version)
    return found


def _exact(workspace: Workspace, ref: Ref) -> Ref:
    if _ended_badly(workspace, ref):
        return ref
    if ref.kind == "table" and ref.version is None:
        found = workspace.lake.current(ref.name)
        return Ref("table", ref.name, found) if found else workspace.activities.resolve(ref)
    table = workspace.lake.open(ref.name) if ref.kind == "table" else None
    if table is not None and str(ref.version).isdigit() and table.snapshot_by_id(int(str(ref.version))) is not None:
        return ref  # one that others wrote has no record here
    if ref.kind in ("model", "snapshot", "evaluation", "explanation", "report", "verification", "pipeline", "pin") and ref.version is None:
        starting = [name for name in workspace.activities.names(ref.kind) if name.startswith(ref.name)] if len(ref.name) >= 4 else []
        ref = Ref(ref.kind, starting[0]) if len(starting) == 1 else ref
    return workspace.activities.resolve(ref)


def _every_version(workspace: Workspace, ref: Ref) -> list[Ref]:
    found = dict.fromkeys(workspace.activities.versions(ref.kind, ref.name, limit=1_000_000))
    table = workspace.lake.open(ref.name) if ref.kind == "table" else None
    if table is not None:  # dropping it takes the versions that other tools wrote too, which our records may need
        found |= dict.fromkeys(Ref("table", ref.name, str(one.snapshot_id)) for one in table.metadata.snapshots)
    return list(found) or [_exact(workspace, ref)]


def _ended_badly(workspace: Workspace, ref: Ref) -> bool:
    """Whether it is a run that failed or was cancelled: it made nothing, but its folder is there."""
    if ref.kind != "run":
        return False
    try:
        activity = workspace.activities.get(ref.name)
    except NotFoundError:
        return False
    return activity.state in (FAILED, CANCELLED)


def _release_run(workspace: Workspace, ref: Ref) -> list[Ref]:
    with workspace.database.transaction(write=True) as connection:
        holders.forget(connection, [ref.name])
    return [ref]


def _none_serves(workspace: Workspace, refs: Sequence[Ref]) -> None:
    for ref in refs:
        newest = workspace.activities.newest("endpoint", ref.name) if ref.kind == "endpoint" else None
        if newest == ref and deployments.folder(workspace, ref.name).running:
            raise ConflictError(f"The endpoint {ref.name} is running.", f"Stop it first: mlp endpoint {ref.name} --stop")


def _drop_table(workspace: Workspace, name: str) -> None:
    from jupyter_mlp.store import catalog_guard, lake

    table = workspace.lake.open(name)
    workspace.seen.pop(name, None)  # what is written under that name next replaces nothing
    if table is not None:
        catalog_guard.drop(workspace.lake.place, *lake.split(name), table.metadata_location)
