"""What the sidebar lists, as JSON types: pages of rows, what a search finds, one thing in detail, and its lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jupyter_mlp.core.cards import count_text, size_text
from jupyter_mlp.core.entities import FINISHED, RUNNING, Activity
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends import schedule_rows
from jupyter_mlp.store import aliases, deployments, jobs, shelf
from jupyter_mlp.store.activities import CELL_ID, PROCESS
from jupyter_mlp.store.shelf import Thing
from jupyter_mlp.store.workspace import Workspace

PER_PAGE, PER_KIND, MOST = 10, 8, 200  # rows of a page, found of each kind, and at most
_LONGEST_SQL, _POINTS, _DIGITS = 2_000, 200, 18
_LINEAGE = 30  # neighbours told of

Row = dict[str, Any]


def page(workspace: Workspace, kind: str, limit: int = PER_PAGE, cursor: str = "") -> dict[str, Any]:
    """Return the newest rows of a kind, and the cursor of the next page ("" at the end).

    Raises:
        NotFoundError: there is no such kind. InvalidInputError: the cursor is none of ours.
    """
    _known(kind)
    with workspace.database.transaction() as connection:
        found = shelf.page(connection, kind, limit + 1, _place(cursor) if cursor else None)
    more = len(found) > limit
    return {"kind": kind, "rows": _rows(workspace, found[:limit]), "next": _cursor(found[limit - 1]) if more else ""}


def search(
    workspace: Workspace, text: str, kinds: Iterable[str] = (*shelf.KINDS, schedule_rows.KIND), limit: int = PER_KIND
) -> dict[str, Any]:
    """Return the rows of things whose words begin with those of `text`, by kind in the order of the flow."""
    found: list[Thing] = []
    wanted = list(kinds)
    with workspace.database.transaction() as connection:
        for kind in wanted:
            if kind != schedule_rows.KIND:
                _known(kind)
                found += shelf.search(connection, kind, text, limit)
    scheduled = schedule_rows.search(workspace, text, limit) if schedule_rows.KIND in wanted else []
    return {"text": text, "rows": [*_rows(workspace, found), *scheduled], "next": ""}


def details(workspace: Workspace, ref: Ref) -> dict[str, Any]:
    """Return what is known of one thing: its row, and what only a look at the thing itself tells.

    Raises:
        NotFoundError: there is no such thing.
    """
    told = _TOLD.get(ref.kind)
    exact, activity = _made(workspace, ref)
    (row,) = _with_states(workspace, [_row(workspace, exact, activity)])
    return {**row, "parameters": dict(activity.parameters), "details": told(workspace, exact, activity) if told else {}}


def lineage(workspace: Workspace, ref: Ref) -> dict[str, Any]:
    """Return what a thing was made from and by whom, and what was made from it, one step each way."""
    exact, activity = _made(workspace, ref)
    # A run stands between its data and its model.
    run = next((one for one in activity.made if one.kind == "run"), None) if exact.kind == "model" else None
    users = [user for user in workspace.activities.users(exact, _LINEAGE) if user.made]
    of_run = [one for one in activity.made if one.kind == "model"] if exact.kind == "run" else []
    return {
        "ref": str(exact),
        "used": [_named(one) for one in ([run] if run else activity.used)],
        "made": [_named(one) for one in of_run] + [{**_named(one), "by": user.kind} for user in users for one in user.made][:_LINEAGE],
        "by": _by(activity),
    }


def report_of(workspace: Workspace, ref: Ref) -> bytes:
    """Return the page that an evaluation, a verification or a monitoring report has, or the executed notebook of a run as a page.

    Raises:
        NotFoundError: it has none.
    """
    exact, activity = _made(workspace, ref)
    if exact.kind == "pipeline":
        return _executed(exact, activity)
    told = activity.facts.get("report")
    path = (workspace.artifacts.root / str(told)).resolve() if told else None
    if path is None or not path.is_relative_to(workspace.artifacts.root.resolve()) or not path.is_file():
        raise NotFoundError(f"{exact.short} has no report.", "Evaluations, verifications and monitoring reports have one.")
    return path.read_bytes()


def _executed(ref: Ref, activity: Activity) -> bytes:
    """The executed notebook as a page; wherever the run was told to write it, also outside of what Jupyter shows."""
    from nbconvert import HTMLExporter

    from jupyter_mlp.notebook import document

    path = activity.facts.get("notebook") or activity.parameters.get("output")
    if not path:
        raise NotFoundError(f"{ref.short} has no executed notebook yet.", "It has one as soon as it began.")
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(document.read(str(path)).node)
    return str(page).encode()


def _known(kind: str) -> None:
    if kind not in shelf.KINDS:
        raise NotFoundError(f"There is no list of {kind[:40]!r}.", f"Lists: {', '.join(shelf.KINDS)}.")


def _cursor(last: Thing) -> str:
    return f"{last.seq}.{last.name}"


def _place(cursor: str) -> tuple[int, str]:
    seq, _, name = cursor.partition(".")
    if not (seq.isascii() and seq.isdigit() and len(seq) <= _DIGITS):
        raise InvalidInputError("The cursor is none of ours.", "Leave it out for the first page; `next` of a page gives the next one.")
    return int(seq), name


def _rows(workspace: Workspace, things: list[Thing]) -> list[Row]:
    known = workspace.activities.many([thing.activity for thing in things])
    rows = []
    for thing in things:
        activity = known.get(thing.activity)
        if activity is not None and activity.state != "forgotten":
            rows.append(_row(workspace, _exact(thing, activity), activity))
    return _with_states(workspace, rows)


def _with_states(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """Say of endpoints how they are now, and of models which aliases point at them now."""
    models = [row for row in rows if row["kind"] == "model"]
    if models:
        pointed = aliases.all_of(workspace)
        for row in models:
            row["aliases"] = [alias for alias, model in pointed.items() if model == row["name"]]
    endpoints = [row for row in rows if row["kind"] == "endpoint"]
    if endpoints:
        from jupyter_mlp.serving import places

        found = places.states(workspace, [row["name"] for row in endpoints])
        for row in endpoints:
            row["state"] = found[row["name"]]
    return rows


def _exact(thing: Thing, activity: Activity) -> Ref:
    made = [ref for ref in activity.made if (ref.kind, ref.name) == (thing.kind, thing.name)]
    return made[-1] if made else Ref(thing.kind, thing.name)


def _made(workspace: Workspace, ref: Ref) -> tuple[Ref, Activity]:
    """Return the exact reference and its activity; of a run, however it stands, its own."""
    if ref.kind in ("run", "pipeline"):
        activity = workspace.activities.maker(ref) or workspace.activities.many([ref.name]).get(ref.name)
        if activity is not None and ref.kind == "run" and activity.id != ref.name:
            activity = workspace.activities.many([ref.name]).get(ref.name, activity)
        if activity is not None:
            return ref, activity
        raise NotFoundError(f"There is no {ref} in this workspace.", "The sidebar lists the newest.")
    exact = workspace.activities.resolve(ref)
    maker = workspace.activities.maker(exact)
    if maker is None:
        raise NotFoundError(f"There is no {ref} in this workspace.", "The sidebar lists the newest.")
    return exact, maker


def _row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    now = jobs.settled(workspace, activity) if activity.state == RUNNING else activity
    own = _ROWS.get(ref.kind)
    return {
        "ref": str(ref),
        "short": ref.short,
        "kind": ref.kind,
        "name": ref.name,
        "title": now.name or ref.name,
        "state": now.state,
        "error": now.error,
        "seconds": now.seconds,
        **_by(now),
        **(own(workspace, ref, now) if own else {}),
    }


def _by(activity: Activity) -> dict[str, Any]:
    """Who did it, when and where; whole paths stay here, a notebook is told by its name."""
    return {
        "at": activity.started_at,
        "user": activity.user,
        "host": activity.host,
        "notebook": (activity.notebook or "").rsplit("/", 1)[-1],
        "cell": activity.cell or "",
        "verb": activity.kind,
    }


def _named(ref: Ref) -> dict[str, str]:
    return {"ref": str(ref), "short": ref.short, "kind": ref.kind}


def _dataset_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    facts = activity.facts.get("dataset", {})
    columns = facts.get("preview", {}).get("columns", [])
    return {
        "title": ref.name,
        "detail": f"{count_text(facts.get('rows', 0), 'row')} x {count_text(len(columns), 'column')}, {size_text(facts.get('bytes', 0))}",
        "columns": [{"name": one["name"], "type": one["type"]} for one in columns],
        "sql": str(activity.parameters.get("sql", ""))[:_LONGEST_SQL],
    }


def _table_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    columns = activity.facts.get("columns", [])
    rows = activity.facts.get("rows")
    return {
        "title": ref.name,
        "detail": f"{count_text(rows, 'row')} x {count_text(len(columns), 'column')}" if isinstance(rows, int) else "",
        "columns": [{"name": name, "type": kind} for name, kind in columns],
    }


def _run_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    from jupyter_mlp.store import queue

    metrics = activity.facts.get("metrics") or {}
    told = {
        "detail": ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()),
        "model": next((str(one) for one in activity.made if one.kind == "model"), None),
        "data": str(activity.parameters.get("data", "")),
    }
    if activity.state != RUNNING:
        return told
    place = queue.places(workspace).get(ref.name)
    live = progress(workspace, ref.name)
    told["cell_id"] = str(activity.facts.get(CELL_ID, ""))
    return {**told, "detail": live.pop("text", ""), **live, **({"state": "queued", "detail": f"place {place}"} if place else {})}


def progress(workspace: Workspace, run_id: str) -> dict[str, Any]:
    """Return the newest news of a running training: `text`, and `share` where it is known."""
    from jupyter_mlp.reports import runs

    events, _ = jobs.RunFolder(workspace.find("runs", run_id)).events()
    return next((shown for shown in map(runs.news, reversed(events)) if shown), {"text": "starting"})


def _model_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    metrics = activity.facts.get("metrics") or {}
    return {
        "detail": ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()),
        "run": next((str(one) for one in activity.made if one.kind == "run"), None),
        "target": activity.parameters.get("target"),
    }


def _endpoint_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    folder = deployments.folder(workspace, ref.name)
    wanted = folder.wanted()
    return {
        "title": ref.name,
        "variants": wanted.get("variants", []),
        "port": folder.port,
        "where": folder.where.name,
        "before": bool(activity.facts.get("before")),
        "detail": "",
    }


def _snapshot_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    checks = [one for one in workspace.activities.users(ref, limit=1) if one.kind == "verify"]
    last = checks[0] if checks else None
    told: Row = {"detail": f"{len(activity.used)} inputs", "verified": None}
    if last is not None and last.made:
        told["verified"] = {"ok": _is_ok(last), "ref": str(last.made[0]), "at": last.started_at}
    return told


def _is_ok(verification: Activity) -> bool:
    return bool(verification.facts.get("ok"))


def _verification_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    return {"detail": "the same again" if _is_ok(activity) else "not the same"}


def _pipeline_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    given = activity.parameters.get("parameters") or {}
    return {
        "detail": ", ".join(f"{name}={value}" for name, value in given.items()) or "the defaults",
        "executed": str(activity.facts.get("notebook") or activity.parameters.get("output") or ""),
        "source": str(activity.parameters.get("notebook") or ""),
    }


def _evaluation_row(workspace: Workspace, ref: Ref, activity: Activity) -> Row:
    metrics = activity.facts.get("metrics") or {}
    if "sentence" in activity.facts:
        return {"detail": str(activity.facts["sentence"])}
    return {"detail": ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, int | float))}


def _of_dataset(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    facts = activity.facts.get("dataset", {})
    return {**_versions(workspace, ref), "preview": facts.get("preview", {}), "notes": facts.get("notes", [])}


def _of_table(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    from jupyter_mlp.store import previews

    assert ref.version is not None
    schema = workspace.lake.schema(ref.name, ref.version)
    files = workspace.lake.newest_files(ref.name, ref.version)
    rows = workspace.lake.rows(ref.name, ref.version)
    return {**_versions(workspace, ref), "preview": previews.make(files, schema, rows)}


def _versions(workspace: Workspace, ref: Ref) -> dict[str, Any]:
    return {"versions": [_named(one) for one in workspace.activities.versions(ref.kind, ref.name, limit=20)]}


def _of_run(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    try:
        folder = jobs.folder_of(workspace, ref.name)
    except NotFoundError:  # it failed before its job was written, or its folder was cleaned up
        return {"series": {}}
    return {"series": {name: _thin(points) for name, points in jobs.metric_series(folder).items()}}


def _of_model(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    from jupyter_mlp.store import registry

    found = registry.load(workspace, ref)
    return {"inputs": found.inputs, "target": found.target, "task": found.task, "metrics": found.metrics}


def _of_endpoint(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    """The newest verdict on what it serves now; an earlier one was about other models or shares."""
    looks = (one for one in workspace.activities.users(ref, _LINEAGE) if one.kind == "monitor" and one.state == FINISHED)
    last = next(looks, None)
    if last is None:
        return {"verdicts": []}
    return {"verdicts": [one["sentence"] for one in last.facts.get("verdicts", ())], "judged": last.started_at}


def _of_verification(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    return {name: value for name, value in activity.facts.items() if name not in ("report", PROCESS, CELL_ID)}


def _of_snapshot(workspace: Workspace, ref: Ref, activity: Activity) -> dict[str, Any]:
    from jupyter_mlp.store import snapshots

    found = snapshots.load(workspace, ref)
    return {"inputs": list(found.inputs), "made": list(found.made), "validity": dict(found.validity)}


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most as many points as a small picture shows, the last one always among them."""
    step = -(-len(points) // _POINTS)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


_ROWS: Mapping[str, Callable[[Workspace, Ref, Activity], Row]] = {
    "dataset": _dataset_row,
    "table": _table_row,
    "run": _run_row,
    "model": _model_row,
    "endpoint": _endpoint_row,
    "snapshot": _snapshot_row,
    "verification": _verification_row,
    "pipeline": _pipeline_row,
    "evaluation": _evaluation_row,
}
_TOLD: Mapping[str, Callable[[Workspace, Ref, Activity], dict[str, Any]]] = {
    "dataset": _of_dataset,
    "table": _of_table,
    "run": _of_run,
    "model": _of_model,
    "endpoint": _of_endpoint,
    "verification": _of_verification,
    "snapshot": _of_snapshot,
}
