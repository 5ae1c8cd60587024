"""A dataset's predictions, split by split: the same work in this process and in Spark's tasks.

    files of the dataset     [g0 g1 g2 g3][g4 g5]         row groups
    splits                   [ 0 ][ 1   ][ 2 ][3]         neighbours of one file
    files of predictions     part-00000  part-00001 ...   each appears when it is whole, or not at all

A split depends on nothing but its rows and the model, so whoever makes it again makes the same file: a task that was killed
leaves nothing that counts, and is run again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import storage_error
from jupyter_mlp.store.storable import storable

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.serving.predictor import Predictor

PREDICTION, PROBABILITY = "prediction", "probability"
_SPLIT_ROWS = 250_000  # half a second of work: tasks to share out, and little to do again
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Split:
    """Neighbouring row groups of one file."""

    number: int
    path: str
    groups: tuple[int, ...]
    rows: int

    def file(self, folder: Path) -> Path:
        """Where its predictions are."""
        return folder / f"part-{self.number:05d}.parquet"


def splits(files: Sequence[str]) -> list[Split]:
    """Return the splits of Parquet files, in the order of their rows."""
    import pyarrow.parquet as pq

    found: list[Split] = []
    for path in files:
        meta = pq.read_metadata(path)
        held: list[int] = []
        rows = 0
        for group in range(meta.num_row_groups):
            held.append(group)
            rows += meta.row_group(group).num_rows
            if rows and (rows >= _SPLIT_ROWS or group == meta.num_row_groups - 1):
                found.append(Split(len(found), path, tuple(held), rows))
                held, rows = [], 0
    return found


def score(model: Path, todo: Sequence[Split], keep: Sequence[str] | None, folder: Path, number: int) -> None:
    """Write the predictions of one of the splits; runs in Spark's tasks too, whose processes keep the model loaded.

    Args:
        model: its folder. `keep`: columns to copy beside the prediction; None for all.
    """
    write(_predictor(str(model)), todo[number], keep, folder)


def write(predictor: Predictor, split: Split, keep: Sequence[str] | None, folder: Path) -> None:
    """Write the predictions of a split, all at once."""
    import pyarrow.parquet as pq

    temporary = folder / f".{split.number}-{uuid.uuid4().hex}"
    writer = None
    try:
        for table in _tables(predictor, split, keep):
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd", use_dictionary=_repeating(table.schema))
            writer.write_table(table)
        assert writer is not None, "a split has rows"
        writer.close()
        os.replace(temporary, split.file(folder))
    except OSError as error:
        raise storage_error(error, "writing the predictions") from error
    finally:
        temporary.unlink(missing_ok=True)


def missing(todo: Sequence[Split], folder: Path) -> list[Split]:
    """Return the splits whose predictions are not there yet."""
    return [split for split in todo if not split.file(folder).exists()]


def tidy(folder: Path) -> None:
    """Remove the half-made files that killed tasks left."""
    for path in folder.glob(".*"):
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _predictor(folder: str) -> Any:
    from jupyter_mlp.serving.predictor import Predictor

    return Predictor.load(Path(folder))


def _tables(predictor: Predictor, split: Split, keep: Sequence[str] | None) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(split.path)
    kept = [name for name in (file.schema_arrow.names if keep is None else keep) if name not in (PREDICTION, PROBABILITY)]
    columns = list(dict.fromkeys([*predictor.recipe.columns, *kept]))
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=list(split.groups), columns=columns, use_threads=False):
        found = predictor.predict_columns({name: batch.column(name) for name in predictor.recipe.columns})
        answers = {PREDICTION: pa.array(found.values if found.probabilities is not None else found.scores.reshape(len(batch), -1)[:, 0])}
        if found.probabilities is not None:
            # The chance of the second of two classes, else of the class that was said.
            chances = found.probabilities
            answers[PROBABILITY] = pa.array(chances if chances.ndim == 1 else chances.max(axis=1))
        table = pa.table({**answers, **{name: batch.column(name) for name in kept}})
        yield table.cast(storable(table.schema))


def _repeating(schema: pa.Schema) -> list[str] | bool:
    """Columns whose values repeat, so that a dictionary pays: not numbers with a fraction."""
    import pyarrow.types as t

    return [column.name for column in schema if not t.is_floating(column.type) and not t.is_nested(column.type)] or False
