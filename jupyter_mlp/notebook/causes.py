"""Why a cell may show something else when it runs again: what it draws, asks or reads itself, and what it takes from cells that do.

Names are resolved through the notebook's own imports, so `from random import choice` and `np.random.rand` are known for what they are.
A draw counts where nothing before it has seeded that generator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jupyter_mlp.notebook import graph
from jupyter_mlp.notebook.document import CodeCell
from jupyter_mlp.notebook.files import named_in, texts_in
from jupyter_mlp.notebook.flow import Scope, flow_of

DATA, ORDER, CHANCE, CLOCK = "data version", "order or code", "randomness", "clock or network"
_FACTS = (DATA, ORDER)  # known, where the others are only possible
_CLOCKS = re.compile(
    r"^time\.(?!sleep|struct_time|tzset)\w+$|^datetime\.\w+\.(?:now|today|utcnow)$|\.(?:now|today|utcnow)$|^timeit\.|^os\.(?:times|stat|path\.get[acm]time)$"
)
_NETWORK = re.compile(r"^(?:requests|httpx|aiohttp|urllib3|socket|ftplib|smtplib|boto3)\.|^urllib\.request\.|(?:^|\.)urlopen$")
# An address, or a moment that moves: read_csv("https://..."), Timestamp("now").
_OUTSIDE = re.compile(r"(?:https?|ftp|s3|gs)://|(?:now|today)$")
_TIMING = frozenset({"time", "timeit", "prun"})
_EVER_OTHER = re.compile(r"^secrets\.|^uuid\.uuid[14]$|^os\.(?:urandom|getrandom|getpid)$|SystemRandom|^(?:hash|id)$|^tempfile\.")
_MAKERS = re.compile(r"(?:^|\.)(?:default_rng|RandomState|Random|SeedSequence|PCG64|MT19937|Philox|SFC64)$")
_SEEDS = re.compile(r"(?:^|\.)(?:seed|manual_seed|manual_seed_all|set_random_seed|set_state|setstate|set_rng_state)$")
_SEED_ALL = re.compile(r"(?:^|\.)(?:seed_everything|set_seed|fix_seed|set_all_seeds)$")
_SEED_WORDS = ("random_state", "seed", "rng", "generator")
_GENERATORS = {
    "random": re.compile(r"^random\.(?!seed|Random|SystemRandom|getstate|setstate)\w+$"),
    "numpy": re.compile(
        r"^numpy\.random\.(?!seed|Generator|get_state|set_state)\w+$|^(?!random\.).*\.sample$|^scipy\.stats\..*\.rvs$"
        r"|^sklearn\..*(?:train_test_split|resample|shuffle|ShuffleSplit|RandomForest\w+|ExtraTrees\w+|MLP\w+|SGD\w+|KMeans|make_\w+)$"
    ),
    "torch": re.compile(r"^torch\.(?:rand\w*|normal|bernoulli|multinomial)$|^torch\.nn\.\w+$"),
}


@dataclass(frozen=True)
class Suspect:
    """Something that may make a cell show something else, and the words for it."""

    cause: str
    detail: str = ""


_ADDRESS = Suspect(CLOCK, "it reads from an address")


def suspects(
    cells: Sequence[CodeCell],
    other_data: Collection[int] = (),
    unsound: Collection[int] = (),
    changed_files: Mapping[str, str] | None = None,
) -> list[list[Suspect]]:
    """Return for each cell what may be the reason, the likeliest first.

    Args:
        other_data: places of cells that read other data than before. `unsound`: of those that a clean run may not give as shown.
        changed_files: files that are not what they were, and what became of them.
    """
    names = _imports(cells)
    own = _own(cells, names, changed_files or {})
    for place in other_data:
        own[place].insert(0, Suspect(DATA))
    for place in unsound:
        own[place].insert(0, Suspect(ORDER))
    found = []
    for place, before in enumerate(_upstream(cells)):
        near = [one for at in (place, *sorted(before, reverse=True)) for one in own[at]]
        found.append(sorted(near, key=lambda one: one.cause not in _FACTS))  # stable: what is known first, each kind nearest first
    return found


def seeds(cells: Sequence[CodeCell]) -> list[str]:
    """Return what gives generators their seeds, as it is written: `random.seed(4)`, `default_rng(0)`, `random_state=1`."""
    names = _imports(cells)
    found: list[str] = []
    for cell in cells:
        for call in _calls(cell.python):
            name = _resolved(call.func, names)
            if (call.args or call.keywords) and any(form.search(name) for form in (_SEEDS, _SEED_ALL, _MAKERS)):
                found.append(ast.unparse(call))
                continue
            given = [word for word in call.keywords if word.arg in _SEED_WORDS and ast.unparse(word.value) != "None"]
            found += [f"{word.arg}={ast.unparse(word.value)}" for word in given]
    return list(dict.fromkeys(found))


def _upstream(cells: Sequence[CodeCell]) -> Iterator[set[int]]:
    """Yield for each cell the places of those that it takes something from, directly or not."""
    scope = Scope()
    makers: dict[str, set[int]] = {}
    before: list[set[int]] = []
    for place, cell in enumerate(cells):
        needs, made = scope.cell(flow_of(cell.python))
        near = {at for name in needs for at in makers.get(name, ())}
        before.append(near.union(*(before[at] for at in near)))
        for name in made:
            makers[name] = {place}
        yield before[-1]


def _own(cells: Sequence[CodeCell], names: Mapping[str, str], changed_files: Mapping[str, str]) -> list[list[Suspect]]:
    seeded: set[str] = set()
    found: list[list[Suspect]] = []
    for cell in cells:
        read = [changed_files[name] for name in named_in(cell.python, changed_files)]
        mine = [Suspect(DATA, detail) for detail in read]
        if any(name in _TIMING for name, _ in graph.magics_of(cell.python)):
            mine.append(Suspect(CLOCK))
        for call in _calls(cell.python):
            name = _resolved(call.func, names)
            if _SEED_ALL.search(name):
                seeded |= _GENERATORS.keys()
            elif _SEEDS.search(name) and (call.args or call.keywords):
                seeded.add(name.split(".")[0])
            elif _is_chance(call, name, seeded):
                mine.append(Suspect(CHANCE))
            elif _NETWORK.search(name):
                mine.append(_ADDRESS)
            elif _CLOCKS.search(name):
                mine.append(Suspect(CLOCK))
        if any(_OUTSIDE.match(text) for text in texts_in(cell.python)):
            mine.append(_ADDRESS)  # here, or where a cell takes it
        found.append(list(dict.fromkeys(mine)))
    return found


def _is_chance(call: ast.Call, name: str, seeded: Collection[str]) -> bool:
    given = [word.value for word in call.keywords if word.arg in _SEED_WORDS]
    if any(not (isinstance(one, ast.Constant) and one.value is None) for one in given):
        return False
    if _MAKERS.search(name):
        return all(isinstance(one, ast.Constant) and one.value is None for one in call.args)
    if _EVER_OTHER.search(name):
        return True
    return any(form.search(name) and family not in seeded for family, form in _GENERATORS.items())


def _calls(python: str) -> Iterator[ast.Call]:
    """Calls in the order in which they stand, also those inside definitions."""
    try:
        tree = ast.parse(python)
    except SyntaxError:
        return
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from sorted(found, key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))


def _imports(cells: Sequence[CodeCell]) -> dict[str, str]:
    """What the notebook's imports mean: np -> numpy, choice -> random.choice."""
    found: dict[str, str] = {}
    for cell in cells:
        try:
            nodes = list(ast.walk(ast.parse(cell.python)))
        except SyntaxError:
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {one.asname or one.name.split(".")[0]: one.name if one.asname else one.name.split(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _resolved(node: ast.expr, names: Mapping[str, str]) -> str:
    """The full name of what is called; of a method of a value, the value as it is written."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    base = names.get(node.id, node.id) if isinstance(node, ast.Name) else "(value)"
    return ".".join([base, *reversed(parts)])
