"""A dataset's predictions as a Spark job, Parquet in and one committed dataset version out, beside torch in one process.

The shape is that of the peers' measurements: an MLP 32-64-1, float32 columns, the predictions alone are written. Ours is the
verb itself: records, Iceberg commit and fsync included, the recipe (means and deviations) too. Spark is warm, as in a notebook.
The peer loads its model once, reads batches with pyarrow, and writes one file, with as many threads as torch and Arrow like.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WHAT = "a dataset's predictions by Spark | 1-process torch"
LIMIT, TARGET, LIMIT_S = 2.0, 1.0, None  # of the time: 0.5 and 1.0 of the rows a second
ROWS, FILES, FEATURES, GROUP = 4_000_000, 8, 32, 125_000
_took: dict[str, list[float]] = {}


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds for all rows; the first answer of Spark's warm server and of its Python workers is not counted."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        files = _written()
        net, model = _model()

        def ours() -> float:
            import jupyter_mlp as mlp
            from jupyter_mlp.store.datasets import DatasetVersion

            begun = time.perf_counter()
            made = mlp.predict(model, data="rows", into=f"predictions_{len(_took.get('ours', ()))}", keep="")
            took = time.perf_counter() - begun
            assert isinstance(made, DatasetVersion) and made.rows == ROWS, made
            return _note("ours", took)

        def peer() -> float:
            begun = time.perf_counter()
            _in_process(files, net, Path(folder, "scores.parquet"))
            return _note("peer", time.perf_counter() - begun)

        ours()
        _took.clear()
        yield {"ours": ours, "peer": peer}


def note() -> str:
    """Say the rows a second."""
    rates = {name: ROWS / statistics.median(found) / 1e6 for name, found in _took.items()}
    return f"{ROWS:,} rows: ours {rates['ours']:.2f} million rows/s, torch {rates['peer']:.2f}: {rates['ours'] / rates['peer']:.2f} of it"


def _note(name: str, took: float) -> float:
    _took.setdefault(name, []).append(took)
    return took


def _written() -> list[str]:
    """Publish the rows as the dataset `rows`; return its files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jupyter_mlp.store import datasets
    from jupyter_mlp.store.workspace import current

    random = np.random.default_rng(0)

    def write(folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        for number in range(FILES):
            values = random.standard_normal((ROWS // FILES, FEATURES), dtype=np.float32)
            table = pa.table({f"f{i:02d}": values[:, i] for i in range(FEATURES)})
            pq.write_table(table, folder / f"part-{number}.parquet", compression="zstd", row_group_size=GROUP, use_dictionary=False)
        return []

    with current().activities.recording("query", name="rows") as draft:
        ref = datasets.publish(current(), draft, "rows", write)
    return datasets.load(current(), ref).files


def _model() -> tuple[object, str]:
    """Register the MLP as training does; return it and its reference."""
    import json

    import pyarrow as pa
    import torch

    from jupyter_mlp.backends import onnx
    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.core.references import Ref
    from jupyter_mlp.store import registry
    from jupyter_mlp.store.workspace import current

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1), torch.nn.Flatten(0)).eval()
    names = [f"f{i:02d}" for i in range(FEATURES)]
    sample = pa.table({**{name: torch.randn(500).numpy() for name in names}, "y": torch.randn(500).numpy()})
    recipe = Recipe.infer(sample.schema, "y", "regression").fit(sample.to_batches())
    with tempfile.TemporaryDirectory() as folder:
        export = onnx.export(net, torch.zeros(4, FEATURES), Path(folder, "model.onnx"))
        assert export["kind"] == "onnx", export
        card = {
            "name": "Mlp", "run": "run:bench", "task": "regression", "target": "y", "classes": None, "metrics": {}, "example": None,
            "data": "dataset:rows@1", "recipe": json.loads(json.dumps(recipe.to_dict())), "export": export,
            "signature": {"inputs": [{"name": name, "type": "float", "nullable": True} for name in names]},
        }  # fmt: skip
        uuid = registry.register(current(), Path(folder), card)
    with current().activities.recording("train", name="Mlp") as draft:
        draft.made.append(Ref("model", uuid))
    return net, f"model:{uuid}"


def _in_process(files: list[str], net: object, target: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    assert callable(net)
    out = []
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=65_536):
            x = np.stack([column.to_numpy() for column in batch.columns], axis=1)
            with torch.inference_mode():
                out.append(net(torch.from_numpy(x)).numpy())
    pq.write_table(pa.table({"y": np.concatenate(out)}), target)
