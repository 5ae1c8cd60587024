"""What a training may take from the notebook beside its model: a LightningDataModule, DataLoaders, callbacks.

They travel by name, as the statements that made them, and are made again in the job: no object is pickled. Statements that
changed such a variable later (`layers.append(...)`, `net.head = ...`) travel with it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError

_DATA = ("LightningDataModule", "DataLoader", "CombinedLoader")
_CHANGING = ("append", "extend", "insert", "add", "update", "setdefault", "add_module", "requires_grad_", "load_state_dict", "apply")
_PLACES = (ast.Attribute, ast.Subscript)


def is_data(value: Any) -> bool:
    """Whether a value is a LightningDataModule (or the class of one) or a DataLoader."""
    return _is_a(value, _DATA)


def is_model(value: Any) -> bool:
    """Whether a value is a LightningModule that was made already."""
    return not isinstance(value, type) and _is_a(value, ("LightningModule",))


def name_of(value: Any, values: Mapping[str, Any], what: str) -> str:
    """Return the variable that holds a value, or the name of a class.

    Raises:
        InvalidInputError: no variable holds it.
    """
    for name, one in values.items():
        if one is value and not name.startswith("_"):
            return name
    if isinstance(value, type):
        return value.__name__
    raise InvalidInputError(
        f"No variable of the notebook holds this {type(value).__name__}, so it cannot be made again in the job.",
        f"Assign it to a variable in a cell, and give that: {what}=NAME.",
    )


def changed(text: str) -> set[str]:
    """Return the variables that a statement changes without assigning them: `x.a = ...`, `x[0] = ...`, `x.append(...)`."""
    found: set[str] = set()
    node = ast.parse(text).body[0]
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return found
    for one in ast.walk(node):
        if isinstance(one, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            found |= {_root(target) for target in targets if isinstance(target, _PLACES)}
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in _CHANGING:
            found.add(_root(one.func))
    return found - {""}


def defined(source: str) -> set[str]:
    """Return what a module defines at its top."""
    tree = ast.parse(source)
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return names | {one.id for node in tree.body if isinstance(node, ast.Assign) for one in node.targets if isinstance(one, ast.Name)}


def has_method(source: str, name: str) -> bool:
    """Whether any class of a module has a method of that name."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return any(isinstance(one, ast.FunctionDef) and one.name == name for node in classes for one in node.body)


def _is_a(value: Any, names: Sequence[str]) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return any(base.__name__ in names for base in kind.__mro__)


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
