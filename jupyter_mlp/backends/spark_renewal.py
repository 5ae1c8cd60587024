"""What a session held that is lost with its server: what is made again, and what the user is told.

The package knows the temporary views that cells made, and can make them again where they mean the same in a new session.
Settings, variables, functions and what Python made are only named: nobody can ask the old session what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError


class Held(NamedTuple):
    """What a session held.

    Attributes:
        views: temporary views -> what is known of them; None for those that something else than a cell made or changed.
        settings, functions: names. `variables`: words that may be names of variables.
    """

    views: Mapping[str, Any]
    settings: tuple[str, ...]
    functions: frozenset[str]
    variables: frozenset[str]


def made_again(held: Held) -> set[str]:
    """Make the cells' views again in the new session, those first that others read; return which."""
    made: set[str] = set()
    if held.settings:  # a view keeps the settings under which it was made
        return made
    left = {name: view for name, view in held.views.items() if view is not None and _stands_alone(view.question.query, held)}
    while ready := [name for name, view in left.items() if made.issuperset(view.question.views)]:
        for name in ready:
            try:
                left.pop(name).make()
            except (InvalidInputError, NotFoundError, StorageError):  # it reads what only the old session had; it is told as gone
                continue
            made.add(name)
    return made


def _stands_alone(query: Any, held: Held) -> bool:
    return held.functions.isdisjoint(query.functions) and not (held.variables & {*query.words, ""})


def told(held: Held, made: Iterable[str]) -> str:
    """Return the line that says what happened to the session."""
    again = sorted(made)
    lost = [
        *_some("temporary view", sorted(set(held.views).difference(again))),
        *_some("setting", sorted(held.settings)),
        *_some("function", sorted(held.functions)),
        *(["its variables"] if held.variables else []),
    ]
    parts = ["Spark begins anew, because its session had ended"]
    if again:
        parts.append(f"made again: {', '.join(_some('temporary view', again))}")
    if lost:
        parts.append(f"gone with the old session: {', '.join(lost)}; run their cells again")
    return "; ".join(parts) + "."


def _some(what: str, names: list[str]) -> list[str]:
    return [f"{what}{'s' if len(names) > 1 else ''} {', '.join(names)}"] if names else []
