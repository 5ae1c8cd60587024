"""The magics, made from the table of verbs: parse, call, return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.frontends.arguments import Context, HelpAsked, Verb, parse
from jupyter_mlp.frontends.folder import said_when_gone


class Help(Shown):
    """The help of a magic, shown as text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_dict(self) -> dict[str, Any]:
        """Return the text."""
        return {"help": self._text}

    def card(self) -> Card:
        """Return the text."""
        first, _, rest = self._text.partition("\n")
        return Card(first, text=rest.strip("\n"))


def make(verb: Verb, shell: Any) -> Callable[..., Any]:
    """Return the function behind `%mlp_<verb>` (and `%%mlp_<verb>`)."""
    from IPython.core.magic import no_var_expand

    program = f"%mlp_{verb.name}"

    @no_var_expand  # a value must never become part of a line by pasting
    def magic(line: str, cell: str | None = None) -> Any:
        try:
            given = parse(verb, line, program)
        except HelpAsked as asked:
            return Help(asked.message)
        bars: list[Any] = []

        def progress(title: str) -> Any:
            from jupyter_mlp.frontends.progress import in_notebook

            bars.append(in_notebook(title))
            return bars[-1]

        def bind(name: str, value: Any) -> None:
            if name.isidentifier():
                shell.user_ns[name] = value

        try:
            with said_when_gone():
                return verb.call(given, Context(cell, shell.user_ns, progress, bind))
        finally:
            for bar in bars:
                bar.close()

    magic.__name__ = f"mlp_{verb.name}"
    magic.__doc__ = f"{verb.summary}\n\nExample: {verb.example}\n\n{_options(verb)}\n\n%mlp_{verb.name} --help shows this, too."
    return magic


def _options(verb: Verb) -> str:
    """The options, one a line, for the help that front ends show of the name under the cursor."""
    named = [(", ".join(one.flags), one.help) for one in verb.options]
    width = max((len(flags) for flags, _ in named), default=0)
    return "\n".join(f"  {flags:<{width}}  {said}" for flags, said in named)
