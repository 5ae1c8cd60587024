"""Seeding statements (`seed_everything(3)`, `torch.manual_seed(0)`): they travel with what is made again after them.

So what a statement draws in the job is what it drew in the notebook, as long as what was drawn between is drawn again too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence

from jupyter_mlp.notebook.statements import Statement

_DRAWS = re.compile(r"rand|normal|uniform|shuffle|permut|choice|sample|bernoulli|multinomial")


def draws(text: str) -> bool:
    """Whether a statement draws random numbers, as far as its words tell."""
    return _DRAWS.search(text) is not None


def before(again: Collection[int], statements: Sequence[Statement]) -> list[Statement]:
    """Return the seeding statements before the last of those that are run again, each once where nothing stands between.

    Args:
        again: positions of statements that make a value by running.
    """
    if not again:
        return []
    known = {name for one in statements if one.kind in ("import", "definition") for name in one.defines}
    found: list[Statement] = []
    waiting: dict[str, Statement] = {}
    for one in statements[: max(again) + 1]:
        if one.index in again:
            found += waiting.values()
            waiting = {}
        elif _seeds(one, known):
            waiting.pop(one.text, None)  # a cell that ran twice seeds once, in the place of its last run
            waiting[one.text] = one
    return found


def _seeds(statement: Statement, known: Collection[str]) -> bool:
    if statement.kind not in ("other", "assignment"):
        return False
    node = ast.parse(statement.text).body[0]
    call = node.value if isinstance(node, ast.Expr | ast.Assign) else None
    if not isinstance(call, ast.Call):
        return False
    root = call.func
    while isinstance(root, ast.Attribute):
        root = root.value
    last = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return "seed" in last and isinstance(root, ast.Name) and root.id in known
