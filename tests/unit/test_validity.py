"""Validity of cells, against an oracle that runs them: every order of up to six cells, each cell's values told apart."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence

import pytest

from jupyter_mlp.notebook import document
from jupyter_mlp.notebook.flow import RANDOM, Scope, flow_of
from jupyter_mlp.notebook.validity import OUT_OF_ORDER, STALE, UNKNOWN, VALID, Run, Standing, states

# Each cell shows a value that tells what it read, so that equal values are equal histories.
CHAIN = ("a = ('a',)", "b = ('b', a)", "c = ('c', b)", "d = ('d', c)", "e = ('e', d)", "f = ('f', e)")
DIAMOND = ("a = ('a',)", "b = ('b', a)", "c = ('c', a)", "d = ('d', b, c)", "a = ('again', a)", "e = ('e', a, d)")
OVERWRITTEN = ("x = ('one',)", "y = ('y', x)", "x = ('two',)", "z = ('z', x, y)", "x = ('three', z)", "w = ('w', x)")
IN_PLACE = ("rows = []", "rows.append(('b', len(rows)))", "c = ('c', tuple(rows))", "rows.append(('d', c))", "e = ('e', tuple(rows))")
FUNCTIONS = ("def f():\n    return ('f', k)", "k = ('k',)", "x = ('x', f())", "k = ('other', k)", "y = ('y', f(), x)")
SHAPES = {"chain": CHAIN, "diamond": DIAMOND, "overwritten": OVERWRITTEN, "in place": IN_PLACE, "functions": FUNCTIONS}
NAMES = "abcdefkwxyz"


def orders(count: int) -> Iterator[tuple[int, ...]]:
    """Every order of every subset, and every sequence with repeats of up to four runs."""
    for length in range(1, count + 1):
        yield from itertools.permutations(range(count), length)
    for length in range(2, 5):
        yield from (order for order in itertools.product(range(count), repeat=length) if len(set(order)) < length)


def frozen(space: dict[str, object]) -> dict[str, object]:
    """The values of a kernel as they are at this moment."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in space.items() if name in (*NAMES, "rows")}


class Kernel:
    """The oracle: Python itself."""

    def __init__(self) -> None:
        self.space: dict[str, object] = {}
        self.before: dict[int, dict[str, object]] = {}
        self.shown: dict[int, object] = {}
        self.failed: set[int] = set()
        self.tainted = False  # a run failed, and how far it came only this kernel knows
        self.since: dict[int, list[tuple[int, dict[str, object]]]] = {}

    def run(self, number: int, source: str) -> None:
        was = frozen(self.space)
        self.before[number] = was
        try:
            exec(source, self.space)
            self.failed.discard(number)
        except NameError:
            self.failed.add(number)
            self.tainted = True
        now = frozen(self.space)
        self.shown[number] = tuple(sorted((name, repr(value)) for name, value in now.items() if name in made(source)))
        if source.startswith("def"):
            self.shown[number] = source
        wrote = {name: value for name, value in now.items() if value != was.get(name)}
        for other in self.since:
            if other != number:
                self.since[other].append((number, wrote))
        self.since[number] = []


def made(source: str) -> set[str]:
    """What a cell of the shapes above makes."""
    return {"rows"} if source.startswith("rows") else {source.split(" =")[0]}


def clean(cells: Sequence[str], ran: set[int]) -> Kernel:
    kernel = Kernel()
    for number, source in enumerate(cells):
        if number in ran:
            kernel.run(number, source)
    return kernel


def runs(cells: Sequence[str], order: Sequence[int]) -> list[Run]:
    kernel, found = Kernel(), []
    for number in order:
        kernel.run(number, cells[number])
        error = "NameError" if number in kernel.failed else ""
        found.append(Run(str(number), cells[number], flow_of(cells[number]), frozenset(), error))
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_every_order_is_judged_as_running_it_would(name: str) -> None:
    cells = SHAPES[name]
    standing = [Standing(str(number), source, flow_of(source)) for number, source in enumerate(cells)]
    count = 0
    for order in orders(len(cells)):
        kernel = Kernel()
        for number in order:
            kernel.run(number, cells[number])
        fresh = clean(cells, set(order))
        told = states(standing, runs(cells, order))
        for number, cell in enumerate(told):
            if number not in order:
                assert cell.state == UNKNOWN
                continue
            if number in kernel.failed:
                assert cell.state == UNKNOWN
                continue
            same = number not in fresh.failed and kernel.shown[number] == fresh.shown[number]
            count += 1
            where = (name, order, number, cell, kernel.shown[number], fresh.shown[number])
            sure = not (kernel.tainted or fresh.tainted)
            assert (cell.state == VALID) == same if sure else same or cell.state != VALID, where
    assert count > 1000


@pytest.mark.parametrize("name", ["diamond", "overwritten"])
def test_stale_is_what_running_it_again_would_change(name: str) -> None:
    """Of what is not valid: stale when another cell has since given an input a value that it had not when it was read."""
    cells = SHAPES[name]
    standing = [Standing(str(number), source, flow_of(source)) for number, source in enumerate(cells)]
    seen = set()
    for order in orders(len(cells)):
        kernel = Kernel()
        for number in order:
            kernel.run(number, cells[number])
        if kernel.failed:
            continue
        now = frozen(kernel.space)
        for number, cell in enumerate(states(standing, runs(cells, order))):
            if cell.state in (STALE, OUT_OF_ORDER):
                needs, makes = Scope().cell(flow_of(cells[number]))
                own = {n: v for n, v in now.items() if n in makes and not any(n in wrote for _, wrote in kernel.since[number])}
                anew = any(n in now and n not in own and now[n] != kernel.before[number].get(n) for n in needs)
                assert (cell.state == STALE) == anew, (order, number, cell)
                seen.add(cell.state)
    assert seen == {STALE, OUT_OF_ORDER}


def test_what_failed_is_unknown_and_taints_what_it_would_have_made() -> None:
    cells = ("x = 1", "y = x + missing", "z = y")
    standing = [Standing(str(n), c, flow_of(c)) for n, c in enumerate(cells)]
    ran = [Run("0", cells[0], flow_of(cells[0])), Run("1", cells[1], flow_of(cells[1]), error="NameError: missing")]
    assert [one.state for one in states(standing, ran)] == [VALID, UNKNOWN, UNKNOWN]
    assert "missing" in states(standing, ran)[1].reason


def test_each_state_says_why() -> None:
    def told(cells: Sequence[str], order: Sequence[int], edited: dict[int, str] | None = None) -> list[tuple[str, str]]:
        standing = [Standing(str(n), (edited or {}).get(n, c), flow_of((edited or {}).get(n, c))) for n, c in enumerate(cells)]
        return [(one.state, one.reason) for one in states(standing, [Run(str(n), cells[n], flow_of(cells[n])) for n in order])]

    assert told(("x = 1", "x + 1"), (0, 1)) == [(VALID, ""), (VALID, "")]
    assert told(("x + 1", "x = 1"), (1, 0))[0] == (OUT_OF_ORDER, "it read x from cell 2, which stands below it")
    assert told(("n = 0", "n += 1\nn"), (0, 1, 1))[1] == (OUT_OF_ORDER, "it read n as its own earlier run had left it")
    assert told(("x = 1", "x + 1"), (0, 1), {1: "x + 2"})[1] == (STALE, "its source was edited after it ran")
    stale = told(("x = 1", "y = x"), (0, 1), {0: "x = 2"})
    assert stale[0][0] == STALE and stale[1][0] == OUT_OF_ORDER
    again = [Run("0", "x = 1", flow_of("x = 1")), Run("1", "y = x", flow_of("y = x")), Run("0", "x = 2", flow_of("x = 2"))]
    found = states([Standing("0", "x = 2", flow_of("x = 2")), Standing("1", "y = x", flow_of("y = x"))], again)
    assert found[1].state == STALE and found[1].reason == "x was made anew by cell 1 after it ran"
    gone = states([Standing("1", "y = x", flow_of("y = x"))], again[:2])
    assert "not in the notebook any more" in gone[0].reason


def test_a_straight_run_is_valid_whatever_it_does() -> None:
    cells = ["exec('q = 1')", "%run other.py", "from os.path import *", "q", "import random\nrandom.random()", "_", "def (:"]
    python = [document.python_of(cell) for cell in cells]
    standing = [Standing(str(n), c, flow_of(p)) for n, (c, p) in enumerate(zip(cells, python, strict=True))]
    straight = [Run(str(n), c, flow_of(p)) for n, (c, p) in enumerate(zip(cells, python, strict=True))]
    assert {one.state for one in states(standing, straight)} == {VALID}
    jumbled = states(standing, [straight[3], straight[0], straight[1]])
    assert jumbled[3].state in (UNKNOWN, OUT_OF_ORDER)


@pytest.mark.parametrize(
    ("source", "reads", "makes"),
    [
        ("df['a'] = df.b + 1", {"df"}, {"df"}),
        ("del x", {"x"}, {"x"}),
        ("df.sort_values('a', inplace=True)", {"df"}, {"df"}),
        ("shown = [row for row in rows if row > low]", {"rows", "low"}, {"shown"}),
        ("%time x = f(y)", {"f", "y"}, {"x"}),
        ("%%time\nx = y", {"y"}, {"x"}),
        ("import numpy as np\nnp.random.seed(0)", set(), {"np", RANDOM}),
        ("import numpy as np\nv = np.random.rand()", {RANDOM}, {"np", "v", RANDOM}),
        ("def f(a):\n    return a + k\nf(1)", {"k"}, {"f"}),
        ("%mlp_evaluate run --data rows", {"dataset:rows", "model:run"}, set()),
        ("%mlp_evaluate run --data rows --against model:champion", {"dataset:rows", "model:run", "model:champion"}, set()),
        ("total = sum(n for n in counts)", {"counts"}, {"total"}),
        ("model.fit(x)", {"model", "x"}, {"model"}),
        ("import pandas as pd\npd.set_option('a', 1)\n1", set(), {"pd"}),
        ("for i in range(3):\n    out.append(i)", {"out"}, {"out", "i"}),
    ],
)  # fmt: skip
def test_what_a_cell_reads_and_makes(source: str, reads: set[str], makes: set[str]) -> None:
    assert Scope().cell(flow_of(document.python_of(source))) == (reads, makes)


def test_a_hundred_cells_are_judged_at_once() -> None:
    """A thousand runs of a hundred cells, in well under the 5 ms a cell that recording may cost."""
    draw = random.Random(3)
    cells = [f"v{n} = {' + '.join(f'v{draw.randrange(n)}' for _ in range(min(n, 3))) or '1'}" for n in range(100)]
    standing = [Standing(str(n), c, flow_of(c)) for n, c in enumerate(cells)]
    ran = [Run(str(n), cells[n], flow_of(cells[n])) for n in (draw.randrange(100) for _ in range(1000))]
    begun = time.perf_counter()
    assert len(states(standing, ran)) == 100
    assert time.perf_counter() - begun < 2.0
