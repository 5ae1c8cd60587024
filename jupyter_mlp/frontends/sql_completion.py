"""TAB inside `%%mlp_data` cells: what `sql_words` knows, as IPython's completer wants it - so that it works wherever IPython does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import MLPError

if TYPE_CHECKING:
    from jupyter_mlp.frontends.sql_words import Word


def register(shell: Any) -> None:
    """Offer SQL in the shell's SQL cells, instead of Python; registering twice changes nothing."""
    completer = shell.Completer
    if not any(getattr(one, "is_mlp_sql", False) for one in completer.custom_matchers):
        completer.custom_matchers.append(_matcher())


def _matcher() -> Callable[[Any], Any]:
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier="mlp_sql")
    def match(context: Any) -> Any:
        from jupyter_mlp.frontends import sql_words  # the first TAB pays for it, not every start

        if not sql_words.is_sql(context.full_text) or context.cursor_line == 0:
            return {"completions": []}
        begun, found = _found(context)
        return {
            "completions": [SimpleCompletion(text=one.text, type=one.kind) for one in found],
            "matched_fragment": begun,
            "ordered": True,
            "suppress": True,  # no Python in SQL
        }

    match.is_mlp_sql = True
    return match


def _found(context: Any) -> tuple[str, list[Word]]:
    from jupyter_mlp.frontends import sql_words
    from jupyter_mlp.store.workspace import current

    lines = context.full_text.split("\n")
    at = sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position
    try:
        return sql_words.words(current(), context.full_text, at)
    except MLPError:
        return "", []  # TAB in a broken workspace stays silent; the magic itself will say what is wrong
