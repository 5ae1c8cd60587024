"""Notebooks as people write them, each about something else: what verification must call identical, here and in another environment.

name -> cells. Nothing in them is drawn without a seed, asks the clock, or asks the network.
"""

from __future__ import annotations

NOTEBOOKS: dict[str, tuple[str, ...]] = {
    "plain arithmetic": ("a = 2 ** 100", "print(a)", "a % 97"),
    "text and printing": (
        "words = 'the quick brown fox'.split()",
        "for word in words:\n    print(f'{word:>10}', end='|')",
        "sorted(words, key=len)",
    ),
    "a generator": ("def squares(n):\n    for i in range(n):\n        yield i * i", "list(squares(8))", "sum(squares(1000))"),
    "classes": (
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: float\n    y: float = 0.0",
        "points = [Point(i, i / 3) for i in range(4)]\npoints",
        "max(points, key=lambda p: p.y)",
    ),
    "objects with addresses": (
        "class Thing:\n    pass",
        "things = [Thing() for _ in range(2)]\nthings",
        "print(things[0], len(things), print)",
    ),
    "recursion": ("import functools\n@functools.cache\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)", "fib(120)"),
    "regular expressions": ("import re\ntext = 'a1 b22 c333'", "re.findall(r'([a-z])(\\d+)', text)", "re.sub(r'\\d', '#', text)"),
    "json and dates": (
        "import json, datetime\nday = datetime.date(2013, 1, 1)",
        "print(json.dumps({'day': day.isoformat(), 'n': [1, 2.5, None]}))",
        "day + datetime.timedelta(days=59)",
    ),
    "sets and hashing": ("import hashlib\nnames = {'ann', 'bob', 'eve'}", "sorted(names)", "hashlib.sha256(b'ann').hexdigest()"),
    "exact numbers": (
        "from fractions import Fraction\nfrom decimal import Decimal, getcontext\ngetcontext().prec = 40",
        "sum(Fraction(1, n) for n in range(1, 30))",
        "Decimal(2).sqrt()",
    ),
    "a seeded draw": ("import random\nrandom.seed(4)", "[random.randint(0, 9) for _ in range(10)]", "random.gauss(0, 1)"),
    "numpy": (
        "import numpy as np\nrng = np.random.default_rng(0)\nm = rng.normal(size=(50, 50))",
        "m.mean(axis=0)[:5]",
        "np.linalg.svd(m, compute_uv=False)[:3]",
    ),
    "numpy, the old way": ("import numpy as np\nnp.random.seed(1)", "x = np.random.rand(1000)\nx.std()", "np.histogram(x, bins=4)"),
    "a table": (
        "import pandas as pd\nframe = pd.DataFrame({'k': list('abca'), 'v': [1.5, 2.0, None, 4.0]})\nframe",
        "frame.groupby('k').v.agg(['mean', 'count'])",
        "frame.describe()",
    ),
    "a styled table": (
        "import pandas as pd\nframe = pd.DataFrame({'x': range(4), 'y': [0.1, 0.2, 0.3, 0.4]})",
        "frame.T",
        "print(frame.to_string())\nframe.dtypes",
    ),
    "times and zones": (
        "import pandas as pd\nhours = pd.date_range('2013-03-31', periods=4, freq='h', tz='Europe/Zurich')\nhours",
        "hours.tz_convert('UTC')[0]",
    ),
    "polars": (
        "import polars as pl\nframe = pl.DataFrame({'g': ['a', 'b', 'a'], 'v': [1, 2, 3]})\nframe",
        "frame.group_by('g').agg(pl.col('v').sum()).sort('g')",
    ),
    "arrow": (
        "import pyarrow as pa, pyarrow.compute as pc\ntable = pa.table({'x': [3, 1, 2], 'y': ['a', 'b', None]})\ntable",
        "pc.sum(table['x'])",
        "table.sort_by('x').to_pylist()",
    ),
    "a picture": (
        "import matplotlib.pyplot as plt\nimport numpy as np\nx = np.linspace(0, 6, 200)",
        "plt.plot(x, np.sin(x)); plt.title('sine'); plt.show()",
    ),
    "two pictures in SVG": (
        "%config InlineBackend.figure_formats = ['svg']\nimport matplotlib.pyplot as plt",
        "fig, axes = plt.subplots(1, 2)\naxes[0].bar('abc', [1, 3, 2])\naxes[1].scatter([1, 2], [3, 4])\nplt.show()",
    ),
    "a fit": (
        "from sklearn.datasets import load_iris\nfrom sklearn.linear_model import LogisticRegression\nX, y = load_iris(return_X_y=True)",
        "model = LogisticRegression(max_iter=500).fit(X, y)\nmodel",
        "model.score(X, y), model.coef_.round(6)",
    ),
    "a forest": (
        "from sklearn.datasets import load_diabetes\nfrom sklearn.ensemble import RandomForestRegressor\nX, y = load_diabetes(return_X_y=True)",
        "forest = RandomForestRegressor(20, random_state=0).fit(X, y)\nforest.score(X, y)",
        "forest.feature_importances_.argsort()",
    ),
    "cross validation": (
        "from sklearn.datasets import load_wine\nfrom sklearn.model_selection import cross_val_score\nfrom sklearn.tree import DecisionTreeClassifier\nX, y = load_wine(return_X_y=True)",
        "cross_val_score(DecisionTreeClassifier(random_state=1), X, y, cv=4)",
    ),
    "scipy": (
        "import numpy as np\nfrom scipy import optimize, stats",
        "optimize.minimize(lambda p: (p[0] - 1) ** 2 + (p[1] + 2) ** 2, [0, 0]).x.round(4)",
        "stats.ttest_ind([1, 2, 3, 4], [2, 3, 4, 6]).pvalue",
    ),
    "symbols": ("import sympy as sp\nx = sp.symbols('x')", "sp.integrate(sp.exp(-x ** 2), (x, -sp.oo, sp.oo))", "sp.factor(x ** 4 - 1)"),
    "a graph": (
        "import networkx as nx\ngraph = nx.path_graph(5)\ngraph.add_edge(0, 3)",
        "nx.shortest_path(graph, 0, 4)",
        "nx.pagerank(graph)",
    ),
    "a network": (
        "import torch\ntorch.manual_seed(0)\nnet = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))\nnet",
        "x = torch.linspace(0, 1, 12).reshape(4, 3)\nnet(x)",
        "loss = net(x).square().mean(); loss.backward(); round(loss.item(), 6)",
    ),
    "a training loop": (
        "import torch\ntorch.manual_seed(3)\nw = torch.zeros(2, requires_grad=True)\nX = torch.randn(64, 2); y = X @ torch.tensor([1.0, -2.0])\nopt = torch.optim.SGD([w], lr=0.1)",
        "for step in range(30):\n    loss = ((X @ w - y) ** 2).mean(); opt.zero_grad(); loss.backward(); opt.step()\n    if step % 10 == 0:\n        print(step, f'{loss.item():.4f}')",
        "w",
    ),
    "HTML and Markdown": (
        "from IPython.display import HTML, Markdown, display",
        "display(Markdown('**bold**'), HTML('<b>hi</b>'))",
        "HTML('<table><tr><td>1</td></tr></table>')",
    ),
    "a progress bar": (
        "from tqdm import tqdm\nimport time",
        "total = 0\nfor i in tqdm(range(20)):\n    total += i; time.sleep(0.01)\ntotal",
    ),
    "a timing": ("numbers = list(range(100_000))", "%%time\nsum(numbers)", "len(numbers)"),
    "warnings and errors that are caught": (
        "import warnings\nwarnings.warn('be careful')\n1",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    print('caught', error)",
    ),
    "files of its own": (
        "from pathlib import Path\nPath('notes.txt').write_text('one\\ntwo\\n')",
        "print(Path('notes.txt').read_text())",
        "len(Path('notes.txt').read_text().splitlines())",
    ),
    "SQL on a table": (
        "%load_ext jupyter_mlp\nimport pandas as pd\nframe = pd.DataFrame({'k': [1, 2, 3], 'v': [1.0, 2.5, 4.0]})",
        "%mlp_table lake.varied frame",
        "%%mlp_data sums\nSELECT sum(v) AS total, count(*) AS n FROM lake.varied",
        "sums.to_pandas()",
    ),
}
