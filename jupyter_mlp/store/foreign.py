"""Tables of a cluster's own catalog: not versioned there, so what was read is recorded by fingerprint, and said.

A fingerprint tells whether a table is what it was; it cannot bring the old rows back. What the query made of them is copied into
the lake like every result, and stays.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple
from urllib.parse import quote

from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

_LOOK_BACK = 100  # records


class Foreign(NamedTuple):
    """A table that only the cluster knows: what stands for it in the record, and what the reader must know."""

    refs: tuple[Ref, ...]
    note: str


def look(workspace: Workspace, name: str) -> Foreign:
    """Return what is known of a table that is not in the lake, asking the cluster for its files where there is one."""
    address = workspace.settings.spark
    if not address.startswith("sc://"):
        return Foreign((), f"{name} is not versioned here")
    host = address.removeprefix("sc://").split("/")[0].split(";")[0].rpartition("@")[2]
    files = workspace.engine.files_of(name)
    if not files:
        return Foreign(
            (), f"{name} is not versioned here: the cluster {host} has it, without files to know it again by; the result is a copy"
        )
    ref = Ref("file", quote(f"sc://{host}/{name}", safe="/:._-"), digest(sorted(files)))
    size = sum(length for _, length, _ in files)
    told = f"{name} is not versioned here: the cluster {host} has it, in {len(files):,} files of {size:,} bytes; this result is a copy"
    return Foreign((ref,), f"{told}, and {_since(workspace, ref)}")


def _since(workspace: Workspace, ref: Ref) -> str:
    """How the table differs from when it was last read here."""
    for activity in workspace.activities.recent(["query"], _LOOK_BACK):
        before = next((used for used in activity.used if (used.kind, used.name) == (ref.kind, ref.name)), None)
        if before is not None:
            at = datetime.datetime.fromtimestamp(activity.started_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            return f"the table's files are those of {at}" if before == ref else f"the table's files changed since it was read at {at}"
    return "its files' names, sizes and times are recorded"
