"""Notebooks with one fault each, planted between their run and their verification: what they run, what happens to them, what must be said.

A notebook is a way in which a value comes about (SOURCES) and a way in which it is shown (SHAPES), between cells that repeat exactly:
seeded draws, a file that nobody touches. The same notebook without the fault is a clean one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pandas as pd

KINDS = ("table", "package", "swapped", "random", "clock", "file", "deleted")
DATA, ORDER, CHANCE, CLOCK, ENVIRONMENT = "data version", "order or code", "randomness", "clock or network", "environment"
STOPPED = "stopped"  # before the first cell, by the name of what is missing
ROWS = pd.DataFrame({"month": [1, 2, 3, 4], "value": [1.0, 2.0, 4.0, 8.0]})

Act = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """A notebook and its fault.

    Attributes:
        before: makes what the notebook reads. `between`: acts before the cell at a place runs.
        swap: cells that change places in the saved file. `after`: acts between snapshot and verification.
        cause: of every cell that is different then, or STOPPED.
    """

    kind: str
    name: str
    cells: tuple[str, ...]
    cause: str
    before: Act = lambda folder: None
    between: dict[int, Act] = field(default_factory=dict)
    swap: tuple[int, int] | None = None
    after: Act = lambda folder: None


SHAPES: dict[str, Callable[[str], list[str]]] = {
    "printed": lambda value: [f"print('the value is', {value})"],
    "returned": lambda value: [value],
    "through a variable": lambda value: [f"taken = {value}", "twice = [taken, taken]", "print(twice)"],
    "through functions": lambda value: [f"def one():\n    return {value}", "def two():\n    return {'one': one()}", "two()"],
    "in a frame": lambda value: [f"import pandas as pd\nframe = pd.DataFrame({{'x': [{value}], 'y': ['a']}})", "frame.T"],
    "as html": lambda value: [f"from IPython.display import HTML\nnumber = {value}", "HTML(f'<table><tr><td>{number}</td></tr></table>')"],
    "drawn": lambda value: [f"import matplotlib.pyplot as plt\nheight = {value}", "plt.bar(['a', 'b'], [1, float(height)])\nplt.show()"],
    "as vega": lambda value: [
        f"spec = {{'mark': 'bar', 'data': {{'values': [{{'a': {value}}}]}}}}",
        "display({'application/vnd.vegalite.v5+json': spec}, raw=True)",
    ],
    "in a class": lambda value: [f"class Model:\n    def fit(self):\n        self.w = {value}\n        return self", "Model().fit().w"],
}

CHANCES = (
    ("import random", "random.random()"),
    ("import numpy as np", "float(np.random.rand())"),
    ("import numpy as np", "int(np.random.default_rng().integers(10**9))"),
    ("from random import randint", "randint(1, 10**9)"),
    ("import random", "random.Random().random()"),
    ("import uuid", "uuid.uuid4().int % 10**9"),
    ("import secrets as hidden", "hidden.randbelow(10**9)"),
    ("import pandas as pd", "int(pd.Series(range(10**6)).sample(1).iloc[0])"),
    ("import random, numpy as np\nrandom.seed(4)", "float(np.random.normal())"),
    ("import os", "int.from_bytes(os.urandom(4), 'big')"),
    ("import random\nnumbers = list(range(10**6))", "random.choice(numbers)"),
    ("import numpy as np\nrng = np.random.default_rng(None)", "float(rng.random())"),
    ("from sklearn.model_selection import train_test_split", "sum(train_test_split(range(10**4))[1])"),
)
CLOCKS = (
    ("import time", "time.time()"),
    ("import time", "time.perf_counter_ns() % 10**9"),
    ("from datetime import datetime", "datetime.now().timestamp() % 10**4"),
    ("import datetime as dt", "dt.datetime.now().microsecond + 1"),
    ("import pandas as pd", "pd.Timestamp.now().value % 10**9"),
    ("from time import time as clock", "clock() % 1000"),
    ("import time", "time.monotonic() % 1000"),
    ("import pandas as pd", "pd.Timestamp('now').value % 10**9"),
    ("import time\nbegun = time.perf_counter()", "time.perf_counter() - begun"),
    ("from urllib.request import urlopen", "int(urlopen(address).read())"),
    ("import pandas as pd", "int(pd.read_csv(address, header=None).iloc[0, 0])"),
)
FILES = (
    ("limit = open('limit.txt').read()", "float(limit)"),
    ("import pandas as pd", "float(pd.read_csv('rows.csv').value.sum())"),
    ("from pathlib import Path", "float(Path('limit.txt').read_text())"),
    ("import json", "json.load(open('told.json'))['limit']"),
    ("import numpy as np", "float(np.load('values.npy').sum())"),
    ("import pandas as pd\nplace = 'rows.parquet'", "float(pd.read_parquet(place).value.sum())"),
    ("from pathlib import Path", "sum(float(one.read_text()) for one in sorted(Path('parts').glob('*.txt')))"),
    ("month = 2", "float(open(f'parts/{month}.txt').read())"),
    ("import os", "float(open(os.path.join('parts', '2.txt')).read())"),
    ("import csv", "float(list(csv.DictReader(open('rows.csv')))[0]['value'])"),
    ("import pandas as pd\nfrom pathlib import Path\nfolder = Path('parts')", "float(open(folder / '2.txt').read())"),
)
PACKAGES = (
    ("import planted", "planted.value()"),
    ("from planted import value", "value()"),
    ("import planted as other", "other.Model().fit()"),
    ("from planted import Model", "Model.WEIGHT"),
    ("import planted", "sum(map(planted.scaled, [1, 2, 3]))"),
    ("import planted\nimport random\nrandom.seed(3)", "random.random() * planted.value()"),
)
SWAPS = (
    (["x = 3", "x = x * 2", "x = x + 5", "print(x)"], (1, 2)),
    (["items = []", "items.append('a')", "items.append('b')", "items"], (1, 2)),
    (["a = 1", "def f():\n    return a", "a = 2", "f()"], (0, 2)),
    (["y = 5", "print(y)"], (0, 1)),
    (["import pandas as pd\nframe = pd.DataFrame({'x': [1, 2]})", "frame['x'] = frame.x * 2", "frame['x'] = frame.x + 1", "frame"], (1, 2)),
    (["import random", "random.seed(1)", "a = random.random()", "random.seed(2)", "b = random.random()", "print(a, b)"], (1, 3)),
    (["from math import floor as rounded", "from math import ceil as rounded", "rounded(1.5)"], (0, 1)),
    (["told = {'a': 1}", "told.update(a=2)", "told['a'] += 10", "told"], (1, 2)),
    (["import numpy as np\nv = np.arange(3.0)", "v *= 2", "v += 1", "v.sum()"], (1, 2)),
    (["words = ['b', 'a']", "words.sort()", "words.append('A')", "' '.join(words)"], (1, 2)),
    (["def f(x):\n    return x", "def f(x):\n    return -x", "print(f(4))"], (0, 1)),
    (["text = 'a'", "text += 'b'", "text = text.upper()", "text"], (1, 2)),
    (["total = 0", "for k in range(3):\n    total += k", "total = total * 2 + 1", "print(f'{total}')"], (1, 2)),
    (["scale = 1.0", "scale = 2.0", "weights = [scale * w for w in (1, 2)]", "weights"], (1, 2)),
    (["class A:\n    n = 1", "A.n = 5", "print(A.n)", "A.n = 6"], (1, 3)),
)
_STEADY = (
    "import numpy as np, random\nsteady = np.random.default_rng(3)\nprint(steady.integers(10**6), random.Random(5).random())",
    "print(open('steady.txt').read())",
)


def cases(address: str) -> Iterator[Case]:
    """All notebooks, the kinds in turn. `address`: of a server that answers with another number each time."""
    kinds = [_chances(), _clocks(address), _files(), _packages(), _swaps(), _tables(), _deletions()]
    while kinds:
        for one in list(kinds):
            found = next(one, None)
            if found is None:
                kinds.remove(one)
            else:
                yield found


def seeded(case: Case) -> Case | None:
    """The clean twin of a notebook that draws, where a seed makes one."""
    setup = "import random, numpy as np\nrandom.seed(7)\nnp.random.seed(7)"
    ever = ("default_rng", "Random()", "uuid", "hidden", "urandom")
    if case.kind != "random" or any(word in source for word in ever for source in case.cells[len(_STEADY) :]):
        return None
    return Case(case.kind, case.name, (setup, *case.cells), case.cause, case.before)


def _shaped(sources: tuple[tuple[str, str], ...], times: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    shapes = cycle(SHAPES.items())
    for _ in range(times):
        for setup, value in sources:
            name, shape = next(shapes)
            yield f"{value}, {name}", (*_STEADY, setup, *shape(value))


def _chances() -> Iterator[Case]:
    for name, cells in _shaped(CHANCES, 2):
        yield Case("random", name, cells, CHANCE, _write)


def _clocks(address: str) -> Iterator[Case]:
    for name, cells in _shaped(CLOCKS, 2):
        yield Case("clock", name, (f"address = {address!r}", *cells), CLOCK, _write)


def _files() -> Iterator[Case]:
    for number, (name, cells) in enumerate(_shaped(FILES, 2)):
        yield Case("file", name, cells, DATA, _write, after=_remove if number % 5 == 4 else lambda folder: _write(folder, 2.5))


def _packages() -> Iterator[Case]:
    for number, (name, cells) in enumerate(_shaped(PACKAGES, 3)):
        after = (lambda folder: shutil.rmtree(site(folder))) if number % 6 == 5 else lambda folder: install(folder, "2.0", 30)
        yield Case("package", name, cells, ENVIRONMENT, _install_first, after=after)


def _swaps() -> Iterator[Case]:
    for cells, swap in SWAPS:
        shift = len(_STEADY)
        yield Case("swapped", cells[-1], (*_STEADY, *cells), ORDER, _write, swap=(swap[0] + shift, swap[1] + shift))


def _tables() -> Iterator[Case]:
    """A table is written while the notebook is at work: the cells before read what the snapshot does not name."""
    query = "%%mlp_data part\nSELECT sum(value) AS total FROM {table}"
    for number in range(14):
        table = f"lake.changing_{number}"
        shows = [*SHAPES.values()][number % len(SHAPES)]("float(part.to_pandas().total[0])")
        cells = ("%load_ext jupyter_mlp", *_STEADY, query.format(table=table), *shows, query.format(table=table).replace("part", "again"))
        write = {len(cells) - 1: lambda folder, table=table: _write_table(table, 3.0)}
        yield Case("table", f"{table}, {number}", cells, DATA, lambda folder, table=table: (_write(folder), _write_table(table))[0], write)


def _deletions() -> Iterator[Case]:
    """A version that a snapshot names goes away below it."""
    for number in range(14):
        table = f"lake.going_{number}"
        query = f"%%mlp_data part\nSELECT month, value FROM {table} WHERE month > 1"
        shows = [*SHAPES.values()][number % len(SHAPES)]("float(part.to_pandas().value.sum())")
        cells = ("%load_ext jupyter_mlp", *_STEADY, query, *shows, "open('ran', 'a').write('x')")
        after = [_delete_folder, _delete_file, _delete_metadata][number % 3]
        yield Case(
            "deleted", f"{table}, {after.__name__}", cells, STOPPED, lambda folder, table=table: (_write(folder), _write_table(table))[0],
            after=lambda folder, table=table, after=after: after(table),
        )  # fmt: skip


# -- what happens to them


def _write(folder: Path, factor: float = 1.0) -> None:
    """The files that notebooks read."""
    import numpy as np

    rows = ROWS.assign(value=ROWS.value * factor)
    (folder / "steady.txt").write_text("the same")
    (folder / "limit.txt").write_text(f"{factor * 7}")
    (folder / "told.json").write_text(f'{{"limit": {factor * 7}}}')
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet")
    np.save(folder / "values.npy", rows.value.to_numpy())
    (folder / "parts").mkdir(exist_ok=True)
    for part in (1, 2):
        (folder / "parts" / f"{part}.txt").write_text(f"{part * factor}")


def _remove(folder: Path) -> None:
    for path in [*folder.glob("*.csv"), *folder.glob("*.json"), *folder.glob("*.npy"), *folder.glob("*.parquet"), folder / "limit.txt"]:
        path.unlink()
    shutil.rmtree(folder / "parts")


def site(folder: Path) -> Path:
    """Where the package of a case is installed: not beside the notebook, or it would travel with the snapshot."""
    return folder.parent / f"site-{folder.name}"


def install(folder: Path, version: str, value: int) -> None:
    """Install another release of the package."""
    place = site(folder)
    shutil.rmtree(place, ignore_errors=True)
    told = place / f"planted-{version}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: planted\nVersion: {version}\n")
    (place / "planted.py").write_text(
        f"def value():\n    return {value}\n\n\ndef scaled(x):\n    return x * {value}\n\n\n"
        f"class Model:\n    WEIGHT = {value}\n\n    def fit(self):\n        return {value} / 4\n"
    )


def _install_first(folder: Path) -> None:
    _write(folder)
    install(folder, "1.0", 10)


def _write_table(table: str, factor: float = 1.0) -> None:
    import jupyter_mlp as mlp
    from jupyter_mlp.store.workspace import current

    current().seen.pop(table, None)
    mlp.write_table(table, ROWS.assign(value=ROWS.value * factor))


def move_on(case: Case) -> None:
    """Write the table of a case once more, as the world does."""
    _write_table(case.name.split(",")[0], 9.0)


def _place(table: str) -> Path:
    from jupyter_mlp.store.workspace import current

    return current().root / "lake" / "lake" / table.split(".")[1]


def _delete_folder(table: str) -> None:
    shutil.rmtree(_place(table) / "data")


def _delete_file(table: str) -> None:
    next((_place(table) / "data").rglob("*.parquet")).unlink()


def _delete_metadata(table: str) -> None:
    """The catalog itself does not let a version go that a record refers to; a disk does."""
    shutil.rmtree(_place(table) / "metadata")
