"""What a run must know of a notebook's cells before it runs them: what each touches, what is known of it, what may run at once.

A cell's key says everything that its outcome depends on: its source, the keys of what ran before it in its kernel, the data versions
that it names, the files that it names, the environment. A cell whose outcome also depends on the world (the clock, the network, chance,
files it finds by itself), or that changes the world, has a key of its run alone: the same run may go on behind it, another runs it again.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from jupyter_mlp.core.identity import digest
from jupyter_mlp.notebook import api_calls, capture, graph
from jupyter_mlp.notebook.cell_tags import RAISES, SKIPPED
from jupyter_mlp.notebook.document import CodeCell, Document
from jupyter_mlp.notebook.flow import RANDOM, SHOWN_LAST, Scope, flow_of
from jupyter_mlp.notebook.packages import unknown_names
from jupyter_mlp.notebook.statements import statements_of

_VERSION = 1  # of what a key covers
_PURE_VERBS = frozenset({"data", "graph", "status", "history", "schedules", "diff", "doctor", "impact", "runs", "pipeline"})
# What changes the world or takes from it something that no key covers. A name too many costs a cell that runs again.
_WORLD = re.compile(
    r"\b(?:subprocess|socket|requests|httpx|urllib|urlopen|aiohttp|boto\w*|fsspec|shutil|tempfile|uuid[14]?|secrets|getpass|ctypes|threading"
    r"|multiprocessing|asyncio|sqlite3|sqlalchemy|psycopg\w*|smtplib|ftplib|mlflow|wandb|urandom|environ|getenv|psutil|platform|signal|joblib|pickle|system"
    r"|input|write_text|write_bytes|mkdir|makedirs|unlink|rmdir|rename|replace_file|touch|savefig|dump|save|savez\w*|savetxt|tofile|to_(?:csv|parquet|json"
    r"|excel|pickle|sql|feather|hdf|html|latex|markdown)|write_\w+|get_data|now|today|utcnow|gmtime|localtime|strftime|ctime|perf_counter\w*|monotonic\w*"
    r"|process_time\w*|time_ns|getpid|getlogin|gethostname|default_rng\(\)|RandomState\(\)|SystemRandom|id\(|hash\(|os\.(?!path)\w+|time\.(?!sleep)\w+|(?<![.\w])time\(\)"
    r"|glob|rglob|iterdir|listdir|scandir|walk\(|fetch_\w+|download\w*)"
)
_READS_FILES = re.compile(r"\b(?:open|read_\w+|load\w*|imread|genfromtxt|fromfile|exists|is_file)\(")
_CONFIGURES = re.compile(
    r"(?:^|\.)(?:set_\w+|use|filterwarnings|simplefilter|basicConfig|register\w*|rcdefaults|reset_option|seed|manual_seed|seed_everything)$"
)
_MAGICS_AGAIN = frozenset({"load_ext", "matplotlib", "config", "autoreload", "precision"})


@dataclass(frozen=True)
class Cell:
    """A code cell as a run sees it.

    Attributes:
        index: position among all cells. `count`: its execution count in a run from top to bottom.
        names: what it touches, functions' bodies included; None: anything. `needs`, `makes`: what it takes from before, and leaves.
        defines: names that its definitions bind. `replay`: its statements that run again where a kernel goes on behind it.
        may_fail: its tag says that an error is no end of the run.
        blocks: why no kernel can go on behind it, whatever it leaves. `world`: why its outcome is not a matter of its inputs alone.
    """

    index: int
    count: int
    source: str
    python: str
    names: frozenset[str] | None
    needs: frozenset[str]
    makes: frozenset[str]
    defines: frozenset[str]
    replay: tuple[str, ...]
    blocks: str
    sets_environment: bool
    world: str
    blind: bool
    setup: bool
    may_fail: bool
    refs: tuple[str, ...] = ()
    made_refs: tuple[str, ...] = ()

    def told(self) -> dict[str, object]:
        """What the kernel must know of it."""
        return {
            "names": None if self.names is None else sorted(self.names),
            "makes": sorted(self.makes),
            "defines": sorted(self.defines),
            "blocks": self.blocks,
            "sets_environment": self.sets_environment,
            "may_fail": self.may_fail,
        }


@dataclass(frozen=True)
class Chain:
    """Cells that run in one kernel, one after the other, behind other chains."""

    cells: tuple[Cell, ...]
    after: tuple[int, ...] = ()
    keys: tuple[str, ...] = field(default=(), compare=False)


def cells_of(document: Document) -> list[Cell]:
    """Return the cells that a run from top to bottom runs."""
    scope = Scope()
    found: list[Cell] = []
    folder = document.path.parent if document.path else Path.cwd()
    shown = any(SHOWN_LAST in piece.reads for cell in document.cells for piece in flow_of(cell.python).pieces)
    local = capture.local_modules("\n".join(cell.python for cell in document.cells if _parses(cell.python)), folder)
    beside = {name.split("/")[0].removesuffix(".py") for name in local}
    unknown = unknown_names([cell.python for cell in document.cells if _parses(cell.python)], beside)
    hidden = next((name for name, text in local.items() if _reaches_out(text, beside)), "") or unknown.get("*", "")
    run = [cell for cell in document.cells if SKIPPED not in cell.tags]
    for cell, uses in zip(run, api_calls.of_cells(cell.python for cell in run), strict=True):
        blocks = "a cell reads what others showed" if shown else ""
        why = "it calls the platform from Python" if uses.touches else f"{hidden} reaches outside" if hidden else ""
        found.append(_cell(cell, scope, len(found) + 1, blocks, why, unknown))
    return found


def _cell(cell: CodeCell, scope: Scope, count: int, blocks: str, hidden: str, unknown: Mapping[str, str]) -> Cell:
    flow = flow_of(cell.python)
    names: set[str] = set()
    needs: set[str] = set()
    made: set[str] = set()
    for piece in flow.pieces:
        reads, makes = scope.step(piece)
        needs |= reads - made
        made |= makes
        names |= reads | makes
    statements = statements_of([cell.python])
    defined = {name for one in statements if one.kind == "definition" for name in one.defines}
    defined -= {name for one in statements if one.kind != "definition" for name in one.defines}
    replay, stays = _again(cell.python, scope, defined)
    used, makes_refs = graph.platform_of(cell.python)
    foreign = next((f"nobody knows what {unknown[name]} does" for name in sorted(names & unknown.keys())), "")
    world = _world(cell, needs, hidden) or ("" if _is_import(cell.python) else foreign)
    plain = all(_is_setup(node) for node in ast.parse(cell.python).body) if _parses(cell.python) else False
    return Cell(
        cell.index,
        count,
        cell.source,
        cell.python,
        None if flow.blind or RAISES in cell.tags else frozenset(names),
        frozenset(needs),
        frozenset(made),
        frozenset(defined),
        tuple(replay),
        blocks or stays,
        "environ" in cell.python and not stays,
        world,
        bool(flow.blind),
        plain and not world,
        RAISES in cell.tags,
        tuple(used),
        tuple(makes_refs),
    )


def _reaches_out(text: str, beside: set[str]) -> bool:
    """Whether a module beside the notebook does, or may do, what no key covers."""
    touches = any(uses.touches for uses in api_calls.of_cells([text]))
    return bool(touches or _WORLD.search(text) or _READS_FILES.search(text) or (_parses(text) and unknown_names([text], beside)))


def _again(python: str, scope: Scope, defined: set[str]) -> tuple[list[str], str]:
    """Return the statements that a new kernel runs again behind the cell, and why none can go on there."""
    if not _parses(python):
        return [], ""
    found, why = [], ""
    for node in ast.parse(python).body:
        text = ast.unparse(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(text)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in defined:
                found.append(text)
        elif "get_ipython" in text:
            if any(name in _MAGICS_AGAIN for name, _ in graph.magics_of(text)):
                found.append(text)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _of_module(node.value.func, scope):
            constant = all(isinstance(one, ast.Constant) for one in (*node.value.args, *(word.value for word in node.value.keywords)))
            if _CONFIGURES.search(ast.unparse(node.value.func)):
                found += [text] if constant else []
                why = why or ("" if constant else f"{text[:40]} may change a module")
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Delete) and any(_of_module(one, scope) for one in _targets(node)):
            constant = isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.List | ast.Tuple)
            found += [text] if constant else []
            why = why or ("" if constant else f"{text[:40]} changes a module")
    return found, why


def _targets(node: ast.Assign | ast.AugAssign | ast.Delete) -> list[ast.expr]:
    targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
    return [one for one in targets if isinstance(one, ast.Attribute | ast.Subscript)]


def _of_module(node: ast.expr, scope: Scope) -> bool:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id in scope.modules


def _world(cell: CodeCell, needs: set[str], hidden: str) -> str:
    text = _without_texts(cell.python)
    verbs = set(graph.verbs_of(cell.python))
    others = {name for name, _ in graph.magics_of(cell.python) if not name.startswith("mlp_")} - _MAGICS_AGAIN - {"time", "capture"}
    if verbs - _PURE_VERBS:
        return f"%mlp_{min(verbs - _PURE_VERBS)} changes the platform"
    if others or "get_ipython().system" in cell.python or "getoutput" in cell.python:
        return "it runs what no key covers"
    if RANDOM in needs:
        return "it draws from an unseeded generator"
    if found := _WORLD.search(text):
        return f"{found.group()} reaches outside"
    if re.search(r"open\([^)]*['\"][rbt]*[wax+]", cell.python):
        return "it writes a file"
    if "://" in cell.python or (_READS_FILES.search(text) and re.search(r"\bf['\"]| / |join", text)):
        return "what it reads is known only when it runs"
    return hidden


def _is_import(python: str) -> bool:
    return _parses(python) and all(
        isinstance(node, ast.Import | ast.ImportFrom) or "load_ext" in ast.unparse(node) for node in ast.parse(python).body
    )


def _without_texts(python: str) -> str:
    """The source without texts, comments and imports: a word there does nothing."""
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return python
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            node.value = ""
    return ast.unparse(tree)


@lru_cache(maxsize=4096)
def _parses(python: str) -> bool:
    try:
        ast.parse(python)
    except SyntaxError:
        return False
    return True


def _is_setup(node: ast.stmt) -> bool:
    """Whether a statement only says what names mean: imports, definitions, plain values, magics that load."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is None or _is_literal(node.value)
    named = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return named or text or any(name in _MAGICS_AGAIN for name, _ in graph.magics_of(ast.unparse(node)))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True


# -- what may run at once


def chains_of(cells: Sequence[Cell], most: int) -> list[Chain]:
    """Return the cells as chains: a head that sets up, what is independent beside one another, and a tail that needs several.

    Args:
        most: how many kernels may run at once; 1: everything is one chain.
    """
    if most < 2 or any(cell.blind for cell in cells):
        return [Chain(tuple(cells))]
    head = next((at for at, cell in enumerate(cells) if not (cell.setup or cell.world)), len(cells))
    parts, at = _parts(cells[head:])
    if len(parts) < 2:
        return [Chain(tuple(cells))]
    found = [Chain(tuple(cells[:head])), *(Chain(tuple(part), (0,)) for part in parts)]
    if head + at < len(cells):
        found.append(Chain(tuple(cells[head + at :]), tuple(range(len(found)))))
    return found


def _parts(cells: Sequence[Cell]) -> tuple[list[list[Cell]], int]:
    """Return groups of cells that have nothing to do with one another, and where the first cell stands that belongs to none.

    That is one which needs two of them, or which changes the world: it runs when all before it have ended well, as in papermill.
    """
    parts: list[list[Cell]] = []
    for at, cell in enumerate(cells):
        if cell.world:
            return parts, at
        touching = [part for part in parts if any(_meet(cell, other) for other in part)]
        if len(touching) > 1:
            return parts, at
        if touching:
            touching[0].append(cell)
        else:
            parts.append([cell])
    return parts, len(cells)


def _meet(one: Cell, other: Cell) -> bool:
    """Whether it matters which of two cells runs first."""
    return bool(one.makes & (other.needs | other.makes) or other.makes & one.needs)


# -- keys


def keyed(chains: Sequence[Chain], document: Document, run_id: str, cut: Mapping[str, str], around: Mapping[str, object]) -> list[Chain]:
    """Return the chains with the keys of their cells.

    Args:
        run_id: the run, for what is not a matter of inputs alone. `cut`: what names of the platform meant when it began.
        around: `surroundings` when it began.
    """
    folder = document.path.parent if document.path else Path.cwd()
    files = around["files"]
    start = digest(_VERSION, around["environment"], sorted(capture.local_modules(_all(chains), folder).items()))
    found: list[Chain] = []
    for chain in chains:
        key = digest(start, *(found[at].keys[-1] if found[at].keys else "" for at in chain.after))
        keys = []
        made = {ref for at in range(len(found)) for cell in found[at].cells for ref in cell.made_refs}
        for cell in chain.cells:
            parts: list[object] = [key, cell.source, {ref: cut.get(ref, "") for ref in cell.refs if ref not in made}]
            reads = bool(_READS_FILES.search(_without_texts(cell.python)))
            if reads:
                parts.append(files)
            if cell.world or (reads and not files):
                parts.append(run_id)
            key = digest(*parts)
            made |= set(cell.made_refs)
            keys.append(key)
        found.append(Chain(chain.cells, chain.after, tuple(keys)))
    return found


def _all(chains: Iterable[Chain]) -> str:
    return "\n".join(cell.python for chain in chains for cell in chain.cells if _parses(cell.python))


def surroundings(document: Document, parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the files that a notebook and its parameters name, and the environment, as they are now.

    A run keeps what it found when it began: what it changes itself is no reason to do again what it has done.
    """
    folder = document.path.parent if document.path else Path.cwd()
    named = {value for value in parameters.values() if isinstance(value, str)}
    for cell in document.cells:
        nodes = ast.walk(ast.parse(cell.python)) if _parses(cell.python) else iter(())
        named |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found: list[list[object]] = []
    for name in sorted(named):
        path = folder / os.path.expanduser(name)
        if name and os.path.isfile(path):  # which says no of what cannot be a name, a query perhaps
            state = path.stat()
            found.append([name, state.st_size, state.st_mtime_ns])
    return {"files": found, "environment": [sys.version, *_packages()]}


def _packages() -> list[list[object]]:
    """What changes when a package is installed or removed."""
    places = [Path(one) for one in sys.path if one.endswith(("site-packages", "dist-packages"))]
    return [[str(one), one.stat().st_mtime_ns] for one in places if one.is_dir()]
