"""A notebook file as data: its code cells, what they are in Python, and the parameters it declares. Nothing in it is run."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.identity import literal

_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class CodeCell:
    """A code cell.

    Attributes:
        index: position among all cells of the notebook. `python`: the source with magics turned into calls.
        heading: the last markdown heading before it.
    """

    index: int
    source: str
    python: str
    tags: frozenset[str] = frozenset()
    outputs: Sequence[Mapping[str, Any]] = ()
    heading: str = ""


@dataclass(frozen=True)
class Parameter:
    """A value that a run of the notebook may set, as the cell tagged `parameters` declares it.

    Attributes:
        type: what it must be; None where neither annotation nor default says so.
        default: the default, where it is a plain value. `nullable`: whether None is allowed.
    """

    name: str
    type: type | None
    default: Any
    nullable: bool = False


@dataclass(frozen=True)
class Document:
    """A notebook.

    Attributes:
        node: the notebook as nbformat has it. `path`: its file, where it has one.
    """

    node: Any
    path: Path | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem if self.path else "notebook"

    @cached_property
    def cells(self) -> list[CodeCell]:
        """The code cells that are not empty, in order."""
        found, heading = [], ""
        for index, cell in enumerate(self.node.cells):
            if cell.cell_type == "markdown":
                headings = [line.lstrip("# ").strip() for line in cell.source.splitlines() if line.startswith("#")]
                heading = headings[-1] if headings else heading
            elif cell.cell_type == "code" and cell.source.strip():
                tags = frozenset(cell.metadata.get("tags", ()))
                found.append(CodeCell(index, cell.source, python_of(cell.source), tags, cell.outputs, heading))
        return found

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters that the notebook declares; empty when no cell is tagged `parameters`."""
        declaring = next((cell for cell in self.cells if "parameters" in cell.tags), None)
        if declaring is None:
            return {}
        found = [_parameter(node) for node in ast.parse(declaring.python).body]
        return {one.name: one for one in found if one is not None}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for the notebook's parameters, texts turned into what the parameter is.

        Raises:
            InvalidInputError: a name is not declared (the nearest is named), or a value has the wrong type.
        """
        values = {}
        for name, value in given.items():
            if name not in self.parameters:
                hint = nearest(name, self.parameters) or "Tag the cell that sets its defaults `parameters`."
                raise InvalidInputError(f"{self.name} has no parameter {name[:60]}.", hint)
            values[name] = _typed(self.parameters[name], value)
        return values


def read(path: Path | str) -> Document:
    """Return the notebook in a file, in the newest format.

    Raises:
        NotFoundError: there is no such file. InvalidInputError: it is no notebook.
    """
    import nbformat

    file = Path(path)
    try:
        return Document(nbformat.read(file, as_version=4), file.absolute())
    except FileNotFoundError:
        beside = [one.name for one in file.parent.glob("*.ipynb")] if file.parent.is_dir() else []
        raise NotFoundError(f"There is no notebook {path}.", nearest(file.name, beside) or "Give the path of an .ipynb file.") from None
    except (nbformat.ValidationError, nbformat.reader.NotJSONError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InvalidInputError(f"{path} is not a notebook: {str(error)[:100]}", "Give the path of an .ipynb file.") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", "Give the path of an .ipynb file.") from error


def of_bytes(data: bytes) -> Document:
    """Return the notebook that a snapshot holds."""
    import nbformat

    return Document(nbformat.reads(data.decode("utf-8"), as_version=4))


def new(cells: Sequence[Any], metadata: Mapping[str, Any] | None = None) -> Document:
    """Return a notebook of these nbformat cells."""
    import nbformat

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return Document(nbformat.v4.new_notebook(cells=list(cells), metadata={**kernel, **(metadata or {})}))


def running_path() -> Path | None:
    """Return the file of the notebook that this kernel runs, where whoever started it said so."""
    told = os.environ.get("MLP_NOTEBOOK") or os.environ.get("JPY_SESSION_NAME")
    path = Path(told) if told and told.endswith(".ipynb") else None
    return path if path is not None and path.is_file() else None


@lru_cache(maxsize=4096)
def python_of(source: str) -> str:
    """Return a cell's source with IPython's magics turned into calls, without running any."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return str(TransformerManager().transform_cell(source))
    except SyntaxError:
        return source


def _parameter(node: ast.stmt) -> Parameter | None:
    annotation: ast.expr | None = None
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        name, value, annotation = node.target.id, node.value, node.annotation
    elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        name, value = node.targets[0].id, node.value
    else:
        return None
    try:
        default = ast.literal_eval(value) if value is not None else None
    except ValueError:
        default = None  # computed: its type is known from the annotation only
    kind, nullable = _annotated(annotation)
    if annotation is None and default is not None:
        kind = type(default)
    return Parameter(name, kind, default, nullable or default is None)


def _annotated(node: ast.expr | None) -> tuple[type | None, bool]:
    """Read `int`, `list[int]`, `int | None`, `Optional[int]`; anything else may be any value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _annotated(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [node.left, node.right]
        kinds = [_annotated(side)[0] for side in sides if not (isinstance(side, ast.Constant) and side.value is None)]
        return (kinds[0] if len(kinds) == 1 else None), len(kinds) < len(sides)
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value).rsplit(".", 1)[-1]
        return (_annotated(node.slice)[0], True) if outer == "Optional" else (_TYPES.get(outer.lower()), False)
    return (_TYPES.get(node.id), False) if isinstance(node, ast.Name) else (None, False)


def _typed(parameter: Parameter, value: Any) -> Any:
    kind = parameter.type
    if isinstance(value, str) and kind is not str:
        value = literal(value)
    if kind is float and type(value) is int:
        return float(value)
    if value is None and (parameter.nullable or kind is None):
        return None
    fits = kind is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool)))
    if not fits or not _is_json(value):
        wanted = kind.__name__ if kind else "plain value"
        raise InvalidInputError(
            f"The parameter {parameter.name} is {value!r:.60}, not {'an' if wanted[0] in 'aeiou' else 'a'} {wanted}.",
            f"Write {parameter.name}={parameter.default!r:.60}, or another {wanted}.",
        )
    return value


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
