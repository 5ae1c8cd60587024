"""Who may replace what, when several write a table: nobody what he has not seen, and whoever loses is told by whom.

    append      comes behind whatever is there by then
    replace     takes the place of the version that this process last saw as the newest: in a query, as a version it wrote
                itself, or, where it never looked, when the call began. Was another written since, nothing happens and the
                error says so; from then on that version counts as seen, so that running the cell again replaces it.

A run of a pipeline saw its cut; a verification writes into a scratch lake that nobody else knows.
"""

from __future__ import annotations

from collections.abc import Mapping

from jupyter_mlp.core.errors import ConflictError, InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.commits import Commit, MovedError
from jupyter_mlp.store.sources import Source
from jupyter_mlp.store.workspace import Workspace


def commit(
    workspace: Workspace,
    full: str,
    opened: Source,
    staged: list[str],
    before: str | None,
    append: bool,
    noted: Mapping[str, str] | None = None,
) -> Commit:
    """Commit the files: appended behind whoever came first, or in place of exactly the version that this process last saw.

    Args:
        before: the version that was the table's newest when the work began.
        noted: properties of the table that change with this version or not at all.

    Raises:
        ConflictError: another version is there than the one to be replaced; it names who wrote it.
        InvalidInputError: the columns do not fit.
    """
    replaces = None if append or workspace.parent else workspace.seen.get(full, before or "")
    base = before if append else None
    try:
        return workspace.lake.commit(
            full, opened.schema, staged, append=append, base=base, replaces=replaces, lying=bool(opened.lying), noted=noted
        )
    except (MovedError, InvalidInputError) as error:
        workspace.lake.discard([] if opened.lying else staged)
        if isinstance(error, MovedError):
            workspace.seen[full] = error.current or ""  # now it is known
            raise _overtaken(workspace, full, error.current) from error
        raise


def _overtaken(workspace: Workspace, full: str, current: str | None) -> ConflictError:
    """Tell the loser of a race who was faster, and with what."""
    ref = Ref("table", full, current)
    maker = workspace.activities.maker(ref) if current else None
    who = "another program" if maker is None else f"{maker.user} on {maker.host}"
    where = f" in {maker.notebook}" if maker and maker.notebook else ""
    what = f", {maker.facts['rows']:,} rows" if maker and "rows" in maker.facts else ""
    return ConflictError(
        f"{full} was written by {who}{where} after you last looked at it: it is at {ref.short}{what}. Nothing was replaced.",
        f"Look at it (SELECT * FROM {full}); the same cell run again replaces that version, with --append it adds to it.",
    )
