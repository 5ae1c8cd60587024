"""Packages whose calls give what their arguments say, as far as their names tell; of all others a run must not assume it.

A download hides behind a name of its own (`yf.download`), so what a package that is not listed here gives is never taken from
an earlier run. A package too few costs a cell that runs again; one too many would cost a stale number.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

_STANDARD = (
    "__future__ abc array ast base64 binascii bisect bz2 calendar cmath collections contextlib copy csv dataclasses datetime "
    "decimal difflib enum fractions functools gc graphlib gzip hashlib heapq html inspect io itertools json keyword logging "
    "lzma math numbers operator os pathlib pprint random re statistics string struct sys textwrap time traceback types typing "
    "unicodedata warnings zlib zoneinfo"
)
_INSTALLED = (
    "IPython PIL altair bokeh catboost cycler imblearn ipywidgets jax joblib jupyter_mlp lightgbm lightning matplotlib "
    "mpl_toolkits networkx numba numexpr numpy pandas patsy plotly polars pyarrow pytorch_lightning rich scipy seaborn shap "
    "skimage sklearn sparse statsmodels sympy tabulate torch torchmetrics torchvision tqdm typing_extensions umap "
    "vega_datasets xgboost"
)
_KNOWN = frozenset(f"{_STANDARD} {_INSTALLED}".split())


def unknown_names(sources: Iterable[str], local: Iterable[str]) -> dict[str, str]:
    """Return the names that imports of other packages bind in these sources, each with its package; "*" for all of a package.

    Args:
        local: names of modules that live beside the notebook; what they do is looked at, not taken from their names.
    """
    known = _KNOWN | set(local)
    found: dict[str, str] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                bound = [(alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                bound = [(node.module, alias.asname or alias.name) for alias in node.names]
            else:
                continue
            found |= {name: package for package, name in bound if package.split(".")[0] not in known}
    return found
