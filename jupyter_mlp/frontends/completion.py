"""TAB in a magic's line: options, and the names of datasets, tables, models, endpoints, runs and snapshots."""

from __future__ import annotations

from typing import Any

from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.frontends.arguments import Option, Verb


def register(shell: Any) -> None:
    """Offer them in the lines of our magics, by IPython's hook: one for all, as each takes a pattern of its own."""
    from jupyter_mlp.frontends.verbs import VERBS

    known = {f"mlp_{verb.name}": verb for verb in VERBS}

    def complete(_shell: Any, event: Any) -> list[str]:
        verb = known.get(event.command.lstrip("%"))
        return candidates(verb, event.line, event.symbol) if verb else []

    shell.set_hook("complete_command", complete, re_key=r"%%?mlp_\w+")


def candidates(verb: Verb, line: str, word: str) -> list[str]:
    """Return what may stand at the end of `line`, whose last word so far is `word`."""
    if word.startswith("-"):
        return sorted(flag for one in verb.options for flag in one.flags if flag.startswith("--"))
    before = line[: len(line) - len(word)].split()
    wanted = _wanted(verb, before)
    try:
        return _names(wanted.completes) if wanted and wanted.completes else []
    except MLPError:
        return []  # TAB in a broken workspace stays silent; the magic itself will say what is wrong


def _wanted(verb: Verb, before: list[str]) -> Option | None:
    last = before[-1] if before else ""
    flagged = [one for one in verb.options if last in one.flags and last.startswith("-")]
    if flagged and flagged[0].settings.get("action") != "store_true":
        return flagged[0]
    positional = [one for one in verb.options if not one.flags[0].startswith("-")]
    return positional[0] if positional and len(before) == 1 else None


def _names(kind: str) -> list[str]:
    from jupyter_mlp.store.jobs import run_of
    from jupyter_mlp.store.workspace import current

    workspace = current()
    if kind == "cluster":
        from jupyter_mlp.store.clusters import known_to

        return list(known_to(workspace))
    if kind == "table":
        from jupyter_mlp.frontends.sql_words import newest

        return newest(workspace, "table")
    if kind == "recipe":
        return workspace.activities.names("recipe")
    if kind == "dataset":
        return workspace.activities.names("dataset")
    if kind == "model":
        trained = workspace.activities.recent(["train"], limit=50, state="finished")
        return sorted({a.name for a in trained if a.name}) + [f"endpoint:{name}" for name in workspace.activities.names("endpoint")]
    if kind == "run":
        return list(dict.fromkeys(f"run:{run_of(a)}" for a in workspace.activities.recent(["train"], limit=20)))
    if kind in ("endpoint", "snapshot"):
        prefix = "snapshot:" if kind == "snapshot" else ""
        return [prefix + name for name in workspace.activities.names(kind)]
    return []
