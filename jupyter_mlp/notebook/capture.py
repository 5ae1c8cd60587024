"""Capture: the smallest module that defines a model class, taken from the cells that ran.

Static definition and use over IPython-transformed source; the latest definition wins. Names whose value can be written
down (numbers, texts, small arrays) travel by value, definitions by source, local modules as files; what must be made by its
statement brings the seeding statements before it. A live thing that the class needs is refused.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import json
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_mlp.core.cards import size_text
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.notebook import own, seeds
from jupyter_mlp.notebook.statements import Statement, statements_of
from jupyter_mlp.notebook.written import LONGEST, is_drawn, written

_LITERALS = (int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset)
_LIVE = ("pandas", "polars", "pyspark", "pyarrow", "socket", "_io", "sqlite3", "sqlalchemy", "jupyter_mlp", "matplotlib")
_NO_VALUE = ("import", "definition")
_Wanted = tuple[str, int]  # a name, and the position of the statement that reads it
_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}


@dataclass(frozen=True)
class Captured:
    """A model class and all it needs, as source.

    Attributes:
        class_name: the LightningModule. `source`: a module that defines it.
        modules: local modules it imports, as {relative path: source}.
        names: what was captured, each with its size in characters.
    """

    class_name: str
    source: str
    modules: Mapping[str, str] = field(default_factory=dict)
    names: tuple[tuple[str, int], ...] = ()

    @property
    def digest(self) -> str:
        """Identity of the code."""
        return digest(self.class_name, self.source, sorted(self.modules.items()))


def capture(model: Any, cells: Sequence[str], values: Mapping[str, Any] | None = None, also: Sequence[str] = ()) -> Captured:
    """Return the code of a model class, or of the statement that made a model.

    Args:
        model: the class or its name, or FILE.py:CLASS, or NOTEBOOK.ipynb:CLASS; or a variable that holds a model.
        cells: python sources of the cells that ran, in order.
        values: the notebook's variables.
        also: other names that the job needs: a data module, loaders, callbacks.

    Raises:
        NotFoundError: no cell defines a class of that name.
        InvalidInputError: it is no LightningModule, or it needs something that cannot travel (named).
    """
    values = values or {}
    if isinstance(model, type):
        return _of_class(model, cells, values, also)
    if own.is_model(model):
        model = own.name_of(model, values, "model")
    if not isinstance(model, str):
        raise InvalidInputError(f"A {type(model).__name__} is not a model class.", "Give the class, or its name.")
    if ":" in model:
        return _of_file(model, also)
    value = values.get(model)
    if isinstance(value, type):
        return _of_class(value, cells, values, also)
    if own.is_model(value):
        return _from_cells(model, cells, values, also=also)
    if value is not None:
        raise InvalidInputError(
            f"{model} is a {type(value).__name__}, not a model class.", f"Give the class: %mlp_train {type(value).__name__} ..."
        )
    return _from_cells(model, cells, values, also=also)


def constructor_names(captured: Captured) -> list[str] | None:
    """Return the names of the constructor's arguments; None where the source alone does not tell."""
    classes = {node.name: node for node in ast.parse(captured.source).body if isinstance(node, ast.ClassDef)}
    node = classes.get(captured.class_name)
    while node is not None:
        for one in node.body:
            if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                given = one.args
                return None if given.kwarg else [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)][1:]
        node = next((classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes), None)
    return None


def _of_class(model: type, cells: Sequence[str], values: Mapping[str, Any], also: Sequence[str]) -> Captured:
    if not any(base.__name__ == "LightningModule" for base in model.__mro__):
        raise InvalidInputError(
            f"{model.__name__} is not a LightningModule.",
            f"Derive it: class {model.__name__}(L.LightningModule), with training_step and configure_optimizers.",
        )
    if model.__module__ == "__main__" and cells:
        return _from_cells(model.__name__, cells, values, also=also)
    path = inspect.getsourcefile(model)
    if path is None:
        raise InvalidInputError(f"The source of {model.__name__} cannot be found.", "Define it in a cell or in a .py file.")
    return _of_file(f"{path}:{model.__name__}", also)


def _of_file(text: str, also: Sequence[str]) -> Captured:
    path_text, _, name = text.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise NotFoundError(f"There is no file {path_text}.", "Write FILE.py:CLASS or NOTEBOOK.ipynb:CLASS.")
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return _from_cells(name, _cells_of(source), {}, path.parent, also)
    if "/site-packages/" in str(path.resolve()):
        module = inspect.getmodulename(str(path))
        return Captured(name, source, {}, ((str(module), len(source)),))
    return _from_cells(name, [source], {}, path.parent, also)


def _cells_of(notebook: str) -> list[str]:
    from IPython.core.inputtransformer2 import TransformerManager

    transform = TransformerManager().transform_cell
    cells = json.loads(notebook).get("cells", [])
    return [transform("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]


def _from_cells(
    name: str, cells: Sequence[str], values: Mapping[str, Any], folder: Path | None = None, also: Sequence[str] = ()
) -> Captured:
    statements = statements_of(cells)
    found = [s for s in statements if name in s.defines]
    if not found:
        classes = [n for s in statements if s.kind == "definition" for n in s.defines]
        raise NotFoundError(f"No cell that ran defines a class {name}.", nearest(name, classes) or "Run the cell that defines it first.")
    made = own.is_model(values.get(name))
    if not made and (found[-1].kind != "definition" or not found[-1].text.lstrip().startswith(("class ", "@"))):
        raise InvalidInputError(f"{name} is not a class.", "Give the name of a LightningModule.")
    if not values and not _derives_from_lightning(name, statements, set()):
        raise InvalidInputError(f"{name} is not a LightningModule.", f"Derive it: class {name}(L.LightningModule).")
    for other in also:
        if not any(other in statement.defines for statement in statements):
            raise NotFoundError(f"No cell that ran defines {other}.", "Assign it in a cell, and run that first.")
    needed = _needed((name, *also), statements, values)
    pieces = [piece for _, piece in sorted(needed.items())]
    modules = local_modules("\n".join(pieces), folder or Path.cwd())
    names = tuple((_title(piece), len(piece)) for piece in pieces) + tuple((path, len(text)) for path, text in modules.items())
    return Captured(name, "\n\n".join(pieces) + "\n", modules, names)


def _needed(names: Sequence[str], statements: Sequence[Statement], values: Mapping[str, Any]) -> dict[int, str]:
    """Return {position: source} of everything that the named things need."""
    pieces = _Pieces(statements, values)
    pieces.follow([(name, len(statements)) for name in names])
    pieces.follow(pieces.seed())
    return pieces.taken


class _Pieces:
    """What is taken of the statements, as {position: source}."""

    def __init__(self, statements: Sequence[Statement], values: Mapping[str, Any]) -> None:
        self._statements, self._values = statements, values
        self.taken: dict[int, str] = {}
        self._whole: set[int] = set()  # taken as they stand
        self._drawn: set[int] = set()  # taken by value, which was drawn at random
        self._seen: set[_Wanted] = set()

    def follow(self, waiting: list[_Wanted]) -> None:
        """Take what names mean before a position, and all that this needs."""
        while waiting:
            wanted, before = waiting.pop()
            if (wanted, before) in self._seen or wanted in _BUILTINS:
                continue
            self._seen.add((wanted, before))
            statement = _definition(wanted, before, self._statements)
            if statement is None:
                continue  # a name of another scope; Python will say so in the worker if it is missing
            newest = statement is _definition(wanted, len(self._statements), self._statements)  # or it has another value by now
            if statement.kind not in _NO_VALUE and wanted in self._values and newest and self._take_value(wanted, statement):
                continue
            if statement.index not in self._whole:
                for one in [statement, *_changes(wanted, statement, self._statements)]:
                    waiting += self._take(one)

    def seed(self) -> list[_Wanted]:
        """Take the seeding statements of what runs again, and draw again what was drawn between; return what they need."""
        again = {index for index in self._whole if self._statements[index].kind not in _NO_VALUE}
        seeding = seeds.before(again, self._statements)
        needed = [one for seed in seeding for one in self._take(seed)]
        for index in self._drawn - self._whole if seeding else ():
            statement, value = self._statements[index], self.taken[index]
            if seeding[0].index < index < max(again) and not any(_is_live(self._values.get(name)) for name in statement.now):
                needed += self._take(statement)
                self.taken[index] = f"{statement.text}\n{value}"
        return needed

    def _take(self, one: Statement) -> list[_Wanted]:
        """Take a statement as it stands; return what it needs."""
        self.taken[one.index] = one.text
        self._whole.add(one.index)
        return [*((name, one.index) for name in one.now), *((name, len(self._statements)) for name in one.later)]

    def _take_value(self, name: str, statement: Statement) -> bool:
        """Take a variable's value in the place of the statement that made it, where it can be written down."""
        value = self._values[name]
        text = written(name, value)
        if text is None:
            _refuse_large(name, value)
            _refuse_live(name, value)
            return False
        if is_drawn(value) and seeds.draws(statement.text):
            self._drawn.add(statement.index)
        there = self.taken.get(statement.index, "")
        new = [line for line in text.splitlines() if line not in there.splitlines()]
        self.taken[statement.index] = "\n".join([*([there] if there else []), *new])
        return True


def _changes(name: str, statement: Statement, statements: Sequence[Statement]) -> list[Statement]:
    """Return the statements that changed a variable after it was assigned: they belong to what it is."""
    if statement.kind in ("import", "definition"):
        return []
    return [one for one in statements[statement.index + 1 :] if name in own.changed(one.text)]


def _definition(name: str, before: int, statements: Sequence[Statement]) -> Statement | None:
    earlier = [s for s in statements[:before] if name in s.defines]
    later = [s for s in statements[before:] if name in s.defines]
    return earlier[-1] if earlier else later[0] if later else None


def _refuse_large(name: str, value: Any) -> None:
    """Refuse plain values that are too long to be written down; what code makes (tensors, arrays) is made again there."""
    if type(value) in _LITERALS and len(text := repr(value)) > LONGEST and _is_literal(value):
        raise InvalidInputError(
            f"The variable {name} is a {type(value).__name__} of {size_text(len(text))}; up to {size_text(LONGEST)} travel with the code.",
            "Put it into a table of the lake (%mlp_table) and read it as --data, or make it inside a function that the model calls.",
        )


def _is_literal(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_literal(one) for one in value)
    if isinstance(value, dict):
        return all(_is_literal(key) and _is_literal(one) for key, one in value.items())
    return isinstance(value, _LITERALS)


def _refuse_live(name: str, value: Any) -> None:
    if _is_live(value):
        raise InvalidInputError(
            f"The model uses the variable {name}, a live {type(value).__name__} that cannot travel to the job.",
            "Give the model what it needs as a number or text, as a parameter (--set name=value), or as a column of the data.",
        )


def _is_live(value: Any) -> bool:
    return type(value).__module__.split(".")[0] in _LIVE or hasattr(value, "fileno")


def _derives_from_lightning(name: str, statements: Sequence[Statement], seen: set[str]) -> bool:
    seen.add(name)
    statement = next((s for s in reversed(statements) if name in s.defines and s.kind == "definition"), None)
    if statement is None:
        return False
    node = ast.parse(statement.text).body[0]
    bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
    imported = {n for s in statements if s.kind == "import" for n in s.defines}
    for base in bases:
        last = base.split(".")[-1]
        if last == "LightningModule" or (base.split(".")[0] in imported and last not in ("Module", "object")):
            return True  # an imported base may derive from it; the worker checks for good
        if base not in seen and _derives_from_lightning(base, statements, seen):
            return True
    return False


def local_modules(source: str, folder: Path) -> dict[str, str]:
    """Return the sources of modules that are imported and live beside the notebook, not in the environment."""
    found: dict[str, str] = {}
    waiting = [source]
    while waiting:
        for name in _imports(waiting.pop()):
            for path, relative in _files_of(name, folder):
                if relative not in found:
                    found[relative] = path.read_text(encoding="utf-8")
                    waiting.append(found[relative])
    return found


def _imports(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def _files_of(name: str, folder: Path) -> list[tuple[Path, str]]:
    beside = folder / f"{name}.py"
    package = folder / name
    if not beside.is_file() and not (package / "__init__.py").is_file():
        spec = importlib.util.find_spec(name) if name not in sys.stdlib_module_names else None
        if spec is None or spec.origin in (None, "built-in", "frozen") or _installed(Path(str(spec.origin))):
            return []
        beside, package = Path(str(spec.origin)), Path(str(spec.origin)).parent
        if beside.suffix != ".py":
            return []  # compiled for this machine
        if beside.name != "__init__.py":
            return [(beside, beside.name)]
    if beside.is_file() and beside.name != "__init__.py":
        return [(beside, beside.name)]
    return [(path, str(path.relative_to(package.parent))) for path in sorted(package.rglob("*.py"))]


def _installed(path: Path) -> bool:
    here = Path(__file__).resolve().parents[1]
    roots = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("stdlib"), str(here)]
    if any(path.resolve().is_relative_to(Path(root).resolve()) for root in roots):
        return True
    return any(next(folder.glob("*.dist-info"), None) for folder in (path.parent, path.parent.parent))  # by pip, into a folder of its own


def _title(piece: str) -> str:
    lines = [line for line in piece.splitlines() if not line.startswith(("@", "import "))]
    return (lines or [piece])[0].strip()[:60]
