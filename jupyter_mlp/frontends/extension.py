"""`%load_ext jupyter_mlp`: registers magics, displays and completion; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from jupyter_mlp.frontends import display, magics
from jupyter_mlp.frontends.verbs import VERBS


def load(shell: Any) -> None:
    """Add everything to the shell; loading twice changes nothing."""
    for verb in VERBS:
        magic = magics.make(verb, shell)
        shell.register_magic_function(magic, "line_cell" if verb.cell else "line", f"mlp_{verb.name}")
    display.register(shell)
    _start_history(shell)
    _complete(shell)
    _offer_marks(shell)


def _offer_marks(shell: Any) -> None:
    from jupyter_mlp.frontends import marks

    marks.register(shell)


def _start_history(shell: Any) -> None:
    from jupyter_mlp.notebook import history

    history.start(shell)


def _complete(shell: Any) -> None:
    from jupyter_mlp.frontends import completion, inspecting, sql_completion

    for one in (completion, sql_completion, inspecting):
        one.register(shell)
