"""Statements of cells: what each defines and what it reads, now or later, from the source alone."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Statement:
    """One top-level statement of a cell.

    Attributes:
        index: position among all statements. `cell`: position of its cell.
        now: names read when it runs. `later`: names read inside functions and methods, when they are called.
        kind: import, definition, assignment or other.
    """

    index: int
    cell: int
    text: str
    defines: frozenset[str]
    now: frozenset[str]
    later: frozenset[str]
    kind: str


def statements_of(cells: Sequence[str]) -> list[Statement]:
    """Return the statements of all cells in order, without calls of magics; a cell with a syntax error has none."""
    found: list[Statement] = []
    for number, cell in enumerate(cells):
        begun = len(found)
        found += [replace(one, index=begun + one.index, cell=number) if begun or number else one for one in _of_cell(cell)]
    return found


@lru_cache(maxsize=4096)  # a run looks at every cell from several sides
def _of_cell(cell: str) -> tuple[Statement, ...]:
    """The statements of one cell, as if it were the only one."""
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return ()  # it never ran
    found: list[Statement] = []
    for node in tree.body:
        if not _is_magic(node):
            text = ast.get_source_segment(cell, node) or ast.unparse(node)
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.decorator_list:
                text = "\n".join(cell.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno])
            found.append(_statement(len(found), text, node))
    return tuple(found)


def _statement(index: int, text: str, node: ast.stmt) -> Statement:
    defines: set[str] = set()
    now: set[str] = set()
    try:
        table = symtable.symtable(text, "cell", "exec")
    except SyntaxError:  # a top-level await: Python has no scopes for it, so every name counts
        names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
        defines = {one.id for one in names if isinstance(one.ctx, ast.Store)}
        return Statement(index, 0, text, frozenset(defines), frozenset(one.id for one in names) - defines, frozenset(), "other")
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            defines.add(symbol.get_name())
        if symbol.is_referenced():
            now.add(symbol.get_name())
    later: set[str] = set()
    body: set[str] = set()
    for child in table.get_children():
        _free_names(child, later if child.get_type() == "function" else body, later)
    kind = "other"
    if isinstance(node, ast.Import | ast.ImportFrom):
        kind = "import"
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        kind = "definition"
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        kind = "assignment"
    return Statement(index, 0, text, frozenset(defines), frozenset(now | body), frozenset(later), kind)


def _free_names(table: Any, here: set[str], inner: set[str]) -> None:
    here |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    for child in table.get_children():
        _free_names(child, inner, inner)


def _is_magic(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
    if not isinstance(value, ast.Call):
        return False
    inner = value.func
    while isinstance(inner, ast.Attribute | ast.Call):
        inner = inner.value if isinstance(inner, ast.Attribute) else inner.func
    return isinstance(inner, ast.Name) and inner.id == "get_ipython"
