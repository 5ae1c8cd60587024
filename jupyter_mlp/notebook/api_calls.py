"""What the cells of a notebook give to our Python API, under whatever names they imported it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_PACKAGE = __name__.partition(".")[0]
_USUAL = {"mlp": _PACKAGE, _PACKAGE: _PACKAGE}  # a profile's startup file may have imported it: no cell need say so

Names = dict[str, str]  # a name in the notebook -> what it is of our package, like jupyter_mlp.dataset; empty: nothing of ours


@dataclass
class Uses:
    """What a cell does with our package.

    Attributes:
        touches: whether it names anything of it, beside imports. `calls`: what it calls, like jupyter_mlp.dataset.
        texts: what it gives to calls.
    """

    touches: bool = False
    calls: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def of_cells(cells: Iterable[str]) -> list[Uses]:
    """Return what each cell does with our package: the texts in calls like `mlp.dataset("trips")` may name things of the platform."""
    names = dict(_USUAL)
    found: list[Uses] = []
    before: list[str] = []
    for cell in cells:
        uses = Uses()
        statements = _statements(cell, names)
        for place, statement in enumerate(statements):
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names |= {name: path for name, path in _imported(node).items() if path}
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    uses.touches |= bool(names.get(node.id))
                elif isinstance(node, ast.Call) and (called := _path(node.func, names)):
                    uses.calls.append(called)
                    uses.texts += _given(node, before, statements[:place])
            names |= _bound(statement, names)
        found.append(uses)
        before.append(cell)
    return found


def _statements(cell: str, names: Names) -> list[ast.stmt]:
    if not any(name in cell for name in names):
        return []  # most cells: a search costs a hundredth of reading it as Python
    return _parsed(cell)


def _parsed(cell: str) -> list[ast.stmt]:
    try:
        return ast.parse(cell).body
    except SyntaxError:
        return []


def _given(call: ast.Call, before: Sequence[str], here: Sequence[ast.stmt]) -> Iterator[str]:
    """The texts that a call is given: as they stand there, or by a name that cells before, or statements here, gave to one."""
    for given in [*call.args, *(word.value for word in call.keywords)]:
        text = _meant(given.id, before, here) if isinstance(given, ast.Name) else _text(given)
        if text is not None:
            yield text


def _meant(name: str, before: Sequence[str], here: Sequence[ast.stmt]) -> str | None:
    """The text that was given to a name last; None where it is something else, or only a run knows what."""
    earlier = (_parsed(cell) for cell in reversed(before) if name in cell)
    for statement in (one for statements in (here, *earlier) for one in reversed(statements)):
        if any(isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) for node in ast.walk(statement)):
            return _text(statement.value) if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    return None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _path(node: ast.expr, names: Names) -> str:
    """What an expression is of our package; empty when it is something else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (of := _path(node.value, names)):
        return f"{of}.{node.attr}"
    return ""


def _bound(statement: ast.stmt, names: Names) -> Names:
    """What a statement of a cell makes of the names it binds: ours, or something else from here on."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return _imported(statement)
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name: ""}
    if isinstance(statement, ast.Assign):
        return {target.id: _path(statement.value, names) for target in statement.targets if isinstance(target, ast.Name)}
    return {}


def _imported(node: ast.Import | ast.ImportFrom) -> Names:
    if isinstance(node, ast.Import):  # `import a.b` binds a, `import a.b as c` binds a.b
        whole = {one.asname or one.name.partition(".")[0]: one.name if one.asname else one.name.partition(".")[0] for one in node.names}
    elif [one.name for one in node.names] == ["*"]:
        # Not imported: below the steps nothing imports the package itself, which knows them all.
        public = sys.modules[_PACKAGE].__all__ if node.module == _PACKAGE else ()
        whole = {name: f"{_PACKAGE}.{name}" for name in public}
    else:
        whole = {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return {name: path if path.partition(".")[0] == _PACKAGE else "" for name, path in whole.items()}
