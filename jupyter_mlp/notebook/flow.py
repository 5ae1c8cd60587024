"""What a cell reads and makes when it runs, statement by statement, from its IPython-transformed source.

A name is made by assigning it, and also by changing what it holds in place: `rows["a"] = 1`, `rows.append(2)`, `shuffle(rows)`.
What a function reads counts when it is called, not when it is defined. Where the source cannot tell (exec, %run), it says why.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from jupyter_mlp.notebook import graph
from jupyter_mlp.notebook.statements import Statement, statements_of

SHOWN_LAST = "(shown last)"  # `_`, `Out[3]`: what cells before showed
RANDOM = "(random state)"  # the generators that all cells share
_BUILTINS = frozenset(dir(builtins)) | {"get_ipython", "display", "In", "__name__", "__file__", "__doc__"}
_BLIND = frozenset({"exec", "eval", "globals", "locals", "vars", "execfile"})
_BLIND_MAGICS = frozenset({"run", "reset", "reset_selective", "store", "pylab", "load", "macro", "rerun", "recall"})
_PYTHON_MAGICS = frozenset({"time", "capture", "prun"})
_QUIET = frozenset({"print", "display", "len", "help"})
_CHANGING = frozenset(
    "append extend insert remove pop popitem clear sort reverse discard setdefault appendleft popleft fit partial_fit "
    "fit_transform load_state_dict writelines".split()
)
_CHANGING_FUNCTIONS = frozenset("shuffle heappush heappop heapify insort insort_left insort_right setattr delattr copyto".split())
_RETURNS_NOTHING = frozenset({"update"})
_GENERATOR = re.compile(r"(^|_)(rng|generator|prng|gen)$")
_DRAW = re.compile(
    r"^random\.(?!seed|Random|SystemRandom)|\brandom\.(?!seed|default_rng|RandomState|Generator|SeedSequence|PCG64|get_state|Random)\w+$"
    r"|^torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)$|\.sample$"
)
_SEED = re.compile(r"^(seed|manual_seed|seed_everything|set_seed|set_state)$")


@dataclass(frozen=True)
class Piece:
    """One statement.

    Attributes:
        reads: names whose value it takes. `makes`: names that mean something else after it.
        touches: names of things that it may change in place; of a module it uses the functions only.
        later: for each function or class that it defines, what that reads once it is called.
        late_makes: the same for what it makes once it is called (`global x`).
        imports: whether what it makes are modules, or what lies in them.
    """

    text: str
    reads: frozenset[str]
    makes: frozenset[str]
    touches: frozenset[str] = frozenset()
    later: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    late_makes: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    imports: bool = False


@dataclass(frozen=True)
class Flow:
    """A cell's statements in order; `blind` says why it may touch what its source does not name."""

    pieces: tuple[Piece, ...]
    blind: str = ""


class Scope:
    """What is known of the names of a kernel after some cells: which are modules, what functions read once they are called."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.later: dict[str, frozenset[str]] = {}
        self.late_makes: dict[str, frozenset[str]] = {}

    def step(self, piece: Piece) -> tuple[set[str], set[str]]:
        """Return what a statement reads and makes here, and take it into account."""
        touched = piece.touches - self.modules
        reads = self._called(piece.reads | touched)
        makes = piece.makes | touched | {made for name in reads for made in self.late_makes.get(name, ())}
        for name in piece.makes:
            self.later.pop(name, None)
            self.late_makes.pop(name, None)
            self.modules.discard(name)
        self.later |= piece.later
        self.late_makes |= piece.late_makes
        if piece.imports:
            self.modules |= piece.makes
        return reads, set(makes)

    def cell(self, flow: Flow) -> tuple[set[str], set[str]]:
        """Return what a whole cell needs from before, and what it makes."""
        needs: set[str] = set()
        made: set[str] = set()
        for piece in flow.pieces:
            reads, makes = self.step(piece)
            needs |= reads - made
            made |= makes
        return needs, made

    def _called(self, names: frozenset[str] | set[str]) -> set[str]:
        """Names, and what the functions among them read once they are called."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.later.get(name, ())
        return found


@lru_cache(maxsize=4096)
def flow_of(python: str) -> Flow:
    """Return what a cell reads and makes; `python` is its source with magics turned into calls."""
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return Flow((), "it is not Python")
    pieces, blind = _pieces(python)
    used, made = graph.platform_of(python)
    if used or made:
        pieces.append(Piece(python, frozenset(used), frozenset(made)))
    assigned = frozenset(graph.assigned_magics(python))
    if assigned:
        pieces.append(Piece(python, frozenset(), assigned))
    for name, words in graph.magics_of(python):
        if name in _BLIND_MAGICS:
            blind = blind or f"%{name} may define anything"
        elif name in _PYTHON_MAGICS:  # %time x = f(), and %%capture with Python below
            inner, why = _pieces(words[-1])
            pieces += inner
            blind = blind or why
        elif "{" in words[0] or "$" in words[0]:
            pieces.append(Piece(words[0], frozenset(_interpolated(words[0])), frozenset()))
    return Flow(tuple(pieces), blind or _blind(tree))


def _pieces(python: str) -> tuple[list[Piece], str]:
    statements = statements_of([python])
    found = [_piece(one, last=number == len(statements)) for number, one in enumerate(statements, 1)]
    blind = next((f"{one.text.strip()[:40]} brings unknown names" for one in statements if _is_star(one)), "")
    return found, blind


def _piece(one: Statement, last: bool) -> Piece:
    node = ast.parse(one.text).body[0] if _parses(one.text) else None
    now = {name for one_name in one.now if (name := SHOWN_LAST if _is_shown(one_name) else one_name) not in _BUILTINS}
    if one.kind == "definition" and node is not None:
        names = one.defines
        later = frozenset(one.later - _BUILTINS) | (frozenset({RANDOM}) if _draws(node) else frozenset())
        late = frozenset(_globals(node)) | (frozenset({RANDOM}) if _draws(node) else frozenset())
        return Piece(one.text, frozenset(now), names, frozenset(), dict.fromkeys(names, later), dict.fromkeys(names, late) if late else {})
    reads = now | (one.later - _BUILTINS)  # a lambda or a comprehension: it runs with its statement
    makes, touches = set(one.defines), set[str]()
    if node is not None:
        reads -= set(_bound_first(node))
        changed = set(_changed(node))
        reads, makes = reads | changed, makes | changed
        touches = set(_discarded(node, last))
        if _draws(node):
            reads, makes = reads | {RANDOM}, makes | {RANDOM}
        elif _sets(node):
            makes.add(RANDOM)  # it does not matter what came before a seed
    return Piece(one.text, frozenset(reads), frozenset(makes), frozenset(touches), imports=one.kind == "import")


def _is_shown(name: str) -> bool:
    return name == "Out" or (name != "__" and name.strip("_0123456789") == "")


def _parses(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except SyntaxError:
        return False


def _bound_first(node: ast.stmt) -> Iterator[str]:
    """Names that `for x in ...` and `with ... as x` bind before anything below can read them."""
    if isinstance(node, ast.For | ast.AsyncFor):
        targets, given = [node.target], [node.iter]
    elif isinstance(node, ast.With | ast.AsyncWith):
        targets, given = [item.optional_vars for item in node.items if item.optional_vars], [item.context_expr for item in node.items]
    else:
        return
    before = {one.id for expression in given for one in ast.walk(expression) if isinstance(one, ast.Name)}
    yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name) and one.id not in before)


def _changed(node: ast.stmt) -> Iterator[str]:
    """Names of things that a statement changes in place."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    for one in ast.walk(node):
        if isinstance(one, ast.Subscript | ast.Attribute) and isinstance(one.ctx, ast.Store | ast.Del):
            yield from _base(one)
        elif isinstance(one, ast.Delete):
            yield from (target.id for target in one.targets if isinstance(target, ast.Name))
        elif isinstance(one, ast.Call):
            name = _name_of(one)
            in_place = any(w.arg == "inplace" and isinstance(w.value, ast.Constant) and w.value.value is True for w in one.keywords)
            base = list(_base(one.func)) if isinstance(one.func, ast.Attribute) else []
            if name in _CHANGING or in_place or (base and _GENERATOR.search(base[0])):
                yield from base
            if name in _CHANGING_FUNCTIONS:
                yield from (argument.id for argument in one.args if isinstance(argument, ast.Name))


def _discarded(node: ast.stmt, last: bool) -> Iterator[str]:
    """Whose method is called for its effect: nobody takes what it returns."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr not in _QUIET:
        if last and call.func.attr not in _RETURNS_NOTHING:
            return
        yield from _base(call.func)


def _draws(node: ast.stmt) -> bool:
    """Whether it draws from a generator that all cells share."""
    return any(_DRAW.search(ast.unparse(one.func)) for one in ast.walk(node) if isinstance(one, ast.Call))


def _sets(node: ast.stmt) -> bool:
    return any(_SEED.search(_name_of(one)) for one in ast.walk(node) if isinstance(one, ast.Call))


def _name_of(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name) and node.id not in _BUILTINS:
        yield node.id


def _globals(node: ast.stmt) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Global):
            yield from one.names


def _is_star(one: Statement) -> bool:
    return one.kind == "import" and "*" in one.text.split("import", 1)[-1]


def _blind(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BLIND:
            return f"{node.func.id}() may define anything"
    return ""


def _interpolated(line: str) -> Iterator[str]:
    """Names in `!ls {folder}` and `!ls $folder`."""
    yield from re.findall(r"[{$]\s*([A-Za-z_]\w*)", line)
