"""The steps of a notebook and what each reads and makes, from its text alone: variables, and what our magics name."""

from __future__ import annotations

import ast
import builtins
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core import sql_reader
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.notebook.document import CodeCell, Document
from jupyter_mlp.notebook.statements import statements_of
from jupyter_mlp.store.filesystems import is_place

_BUILTINS = frozenset(dir(builtins)) | {"get_ipython", "In", "Out", "_", "display"}


@dataclass(frozen=True)
class Step:
    """One code cell as a step.

    Attributes:
        number: position among the steps, from 1. `cell`: position among all cells of the notebook.
        reads, makes: variables by their names, things of the platform as `dataset:trips`, `table:lake.flights`, ...
    """

    number: int
    cell: int
    name: str
    heading: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def label(self) -> str:
        """Number and name."""
        return f"{self.number} {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the step as JSON types."""
        return {**vars(self), "reads": list(self.reads), "makes": list(self.makes)}


def steps_of(document: Document) -> list[Step]:
    """Return the steps of a notebook in order."""
    return [_step(number, cell) for number, cell in enumerate(document.cells, 1)]


def links_of(steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    """Return (from, to, what): every step after the newest step that made what it reads, or after a thing from outside."""
    made_by: dict[str, Step] = {}
    found: list[tuple[str, str, str]] = []
    for step in steps:
        sources: dict[str, list[str]] = {}
        for name in step.reads:
            bare = name.partition(":")[2] or name  # `--data rows` may name a dataset or a variable that holds rows
            maker = made_by.get(name) or made_by.get(bare)
            if maker is not None:
                sources.setdefault(maker.label, []).append(name)
            elif ":" in name:
                sources.setdefault(name, []).append("")
        found += [(source, step.label, ", ".join(filter(None, names))) for source, names in sources.items()]
        made_by |= dict.fromkeys(step.makes, step)
    return found


def verbs_of(python: str) -> list[str]:
    """Return the verbs of our magics that a cell calls, in order."""
    return [call.verb for call in _calls(python)]


def platform_of(python: str) -> tuple[list[str], list[str]]:
    """Return what the magics of a cell read and make: things of the platform, and variables that they take or bind."""
    found = [_platform(call) for call in _calls(python)]
    return [name for used, _ in found for name in used], [name for _, made in found for name in made]


@dataclass(frozen=True)
class _Call:
    """A call of one of our magics: its verb, the words of its line, and the body of a cell magic."""

    verb: str
    words: list[str]
    body: str | None

    def value(self, flag: str) -> str | None:
        """Return the word after a flag, or of --flag=word."""
        for index, word in enumerate(self.words):
            if word == flag and index + 1 < len(self.words):
                return self.words[index + 1]
            if word.startswith(flag + "="):
                return word.split("=", 1)[1]
        return None

    @property
    def first(self) -> str:
        """The first word that is no option."""
        return self.words[0] if self.words and not self.words[0].startswith("-") else ""


def _step(number: int, cell: CodeCell) -> Step:
    reads: dict[str, None] = {}
    makes: dict[str, None] = {}
    calls = list(_calls(cell.python))
    for statement in statements_of([cell.python]):
        free = sorted((statement.now | statement.later) - _BUILTINS - makes.keys() - statement.defines)
        reads |= dict.fromkeys(free)
        makes |= dict.fromkeys(sorted(statement.defines))
    for call in calls:
        used, made = _platform(call)
        reads |= dict.fromkeys(name for name in used if name not in makes)
        makes |= dict.fromkeys(made)
    makes |= dict.fromkeys(assigned_magics(cell.python))
    return Step(number, cell.index, _name(cell, calls), cell.heading, tuple(reads), tuple(makes))


def _name(cell: CodeCell, calls: Sequence[_Call]) -> str:
    if cell.tags & {"parameters", "injected-parameters"}:
        return "parameters"
    for call in calls:
        target = call.value("--to") if call.verb == "deploy" else call.first
        return f"{call.verb} {target or ''}".strip()[:24]
    statements = statements_of([cell.python])
    defined = [name for s in statements if s.kind == "definition" for name in sorted(s.defines)]
    if defined:
        return ", ".join(defined)[:24]
    if statements and all(s.kind == "import" for s in statements):
        return "imports"
    return cell.source.strip().splitlines()[0][:24]


def _calls(python: str) -> Iterator[_Call]:
    for name, arguments in magics_of(python):
        if not name.startswith("mlp_"):
            continue
        try:
            words = shlex.split(arguments[0])
        except ValueError:
            words = arguments[0].split()
        yield _Call(name.removeprefix("mlp_"), words, arguments[1] if len(arguments) > 1 else None)


def magics_of(python: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (name of a magic, [line, body]) of all calls that IPython's transformer made."""
    if "_magic" not in python:
        return  # most cells: a search costs a hundredth of reading it as Python
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("run_line_magic", "run_cell_magic"):
            given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if len(given) >= 2 and all(isinstance(one, str) for one in given):
                yield str(given[0]), [str(one) for one in given[1:]]


def assigned_magics(python: str) -> Iterator[str]:
    """Yield the names on the left of `run = %mlp_train ...`."""
    if "get_ipython" not in python:
        return
    try:
        body = ast.parse(python).body
    except SyntaxError:
        return
    for node in body:
        if isinstance(node, ast.Assign) and "get_ipython" in ast.unparse(node.value):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _platform(call: _Call) -> tuple[list[str], list[str]]:
    """Return what a call reads and makes, beside variables."""
    used: list[str | None] = []
    made: list[str] = []
    name = call.first
    if call.verb == "data" and call.body is not None:
        used += _tables(call.body)
        made += [f"dataset:{name or 'result'}", name or "result"]
    elif call.verb == "data":
        used.append(f"dataset:{name.split('@')[0]}")
        made.append(name.split("@")[0])
    elif call.verb == "table":
        made.append(f"table:{name if '.' in name else 'lake.' + name}")
        used += [word for word in call.words[1:2] if word.isidentifier()]
    elif call.verb == "recipe":
        used += [_dataset(call.value("--data")), _recipe(name) if call.body is None else None]
        into = call.value("--into")
        made += [*([f"recipe:{name}"] if name and call.body is not None else []), *([f"dataset:{into}", into] if into else [])]
    elif call.verb == "train" and (before := call.value("--resume")):
        used.append(before)
    elif call.verb == "train":
        used += [name, *(_dataset(call.value(flag)) for flag in ("--data", "--validation")), _recipe(call.value("--recipe"))]
        made.append(f"model:{name}")
    elif call.verb in ("evaluate", "explain", "predict"):
        against = call.value("--against")
        used += [_model(name), *([_model(against)] if against else []), _dataset(call.value("--data"))]
        into = call.value("--into")
        made += [f"dataset:{into}", into] if into else []
    elif call.verb == "deploy":
        used.append(_model(name))
        made.append(f"endpoint:{call.value('--to')}")
    elif call.verb == "retrain":
        used.append(f"endpoint:{name.removeprefix('endpoint:')}")
        made.append(f"endpoint:{name.removeprefix('endpoint:')}")
    elif call.verb in ("monitor", "endpoint"):
        used.append(f"endpoint:{name.removeprefix('endpoint:')}")
    return [one for one in used if one], made


def _tables(sql: str) -> list[str]:
    try:
        uses = sql_reader.read(sql).tables
    except MLPError:
        return []
    return [f"table:{use.name}" if "." in use.name else f"dataset:{use.name}" for use in uses]


def _dataset(word: str | None) -> str | None:
    if word and is_place(word):
        return None  # nothing of this notebook makes what lies at a URL
    if word and "." in word.split("@")[0]:
        return f"table:{word.removeprefix('table:').split('@')[0]}"
    return f"dataset:{word.removeprefix('dataset:').split('@')[0]}" if word else None


def _recipe(word: str | None) -> str | None:
    return f"recipe:{word.removeprefix('recipe:').split('@')[0]}" if word else None


def _model(word: str) -> str:
    return word if ":" in word else f"model:{word}"
