"""Recipes: how columns become numbers, said once and used in training, in batch and online, so that nothing can drift.

    text --parse--> Definition --for a dataset's columns--> Unfitted --measured facts--> Recipe: plain data, and features

The text is in `recipe_text`, what the steps do in `steps`, what they learn in `chains` and `fitting`, what is measured in
`statistics`. A definition may also be written for no data and learned from any: its fitted recipe names both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core import scaled, steps, values
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.recipe_text import parse, quoted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from jupyter_mlp.core.fitting import Unfitted

DEFAULT = "*: default"
_BLOCK = 8_192  # rows


@dataclass(frozen=True)
class Input:
    """How one column becomes features.

    Attributes:
        kind, form: what the column holds and how it is read (see `values`).
        said: its steps as text.
    """

    column: str
    kind: str
    form: str
    steps: tuple[steps.Step, ...]
    said: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the features it makes."""
        return steps.names(self.column, self.steps)

    @property
    def width(self) -> int:
        """Number of features it makes."""
        return steps.width(self.steps)


@dataclass(frozen=True)
class Recipe:
    """Learned steps for the input columns, and what the target is.

    Attributes:
        task: regression, binary or multiclass; None without a target.
        classes: the target's values in the order of the model's outputs, for classification.
        statistics: per column what the training data looked like (counts, quantile bins, frequent values).
        notes: what was decided that nobody said.
    """

    inputs: tuple[Input, ...]
    target: str | None = None
    task: str | None = None
    classes: tuple[Any, ...] | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    rows_seen: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def infer(cls, schema: pa.Schema, target: str | None = None, task: str | None = None) -> Unfitted:
        """Return the default recipe for a dataset's columns, not fitted yet.

        Raises:
            NotFoundError: there is no column `target`; the hint names the nearest.
            InvalidInputError: a column's type cannot become numbers, or the task does not fit.
        """
        from jupyter_mlp.core.fitting import prepared  # which makes recipes, and so imports this module

        return prepared(parse(DEFAULT), schema, target, task)

    @property
    def columns(self) -> list[str]:
        """Names of the input columns, in order."""
        return [one.column for one in self.inputs]

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the matrix."""
        return [name for one in self.inputs for name in one.names]

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(one.width for one in self.inputs)

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many values the indices of a column take (0: missing or unknown), for columns that end in an embedding or tokens."""
        return {one.column: size for one in self.inputs if (size := steps.cardinality(one.steps))}

    @property
    def positions(self) -> dict[str, list[int]]:
        """Where in the matrix the features of each column stand."""
        found, at = {}, 0
        for one in self.inputs:
            found[one.column] = list(range(at, at + one.width))
            at += one.width
        return found

    @property
    def text(self) -> str:
        """The recipe as text, every column named: what a default chose can be read, copied and changed."""
        lines = [f"{quoted(one.column)}: {one.said}" for one in self.inputs]
        return "\n".join([*lines, *([f"{quoted(self.target)}: target {self.task}"] if self.target else [])])

    def features(self, columns: Mapping[str, Any], out: np.ndarray | None = None) -> np.ndarray:
        """Return float32 [rows, width] for Arrow columns (arrays or chunked arrays, or a batch's mapping).

        Args:
            out: where to write them; what stands there is overwritten.

        Raises:
            NotFoundError: a column is missing. InvalidInputError: a picture cannot be decoded.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise NotFoundError(f"The data has no column {missing[0]}.", f"This model reads: {', '.join(self.columns)}.")
        import numpy as np

        count = len(columns[self.columns[0]])
        found = np.empty((count, self.width), np.float32) if out is None else out
        together: list[tuple[Input, int]] = []
        for one, at in self._placed():
            if scaled.fits(one.form, one.steps):
                together.append((one, at))
            else:
                _write(one, columns[one.column], found[:, at : at + one.width])
        names, learned, places = [one.column for one, _ in together], [one.steps for one, _ in together], [at for _, at in together]
        scaled.Scaled(names, learned, places).write(columns, found)
        return found

    def rows(self, instances: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return float32 [rows, width] for rows as they come over the network, checked field by field.

        Raises:
            InvalidInputError: a field is missing, unknown or of the wrong type; the message names it.
        """
        readers = [(one, values.reader(one.kind, one.form)) for one in self.inputs]
        read: list[list[Any]] = [[] for _ in readers]
        for index, row in enumerate(instances):
            self.check_fields(index, row)
            for (one, reader), found in zip(readers, read, strict=True):
                found.append(_value(reader, one, index, row[one.column]))
        columns = [values.gathered(one.form, found) for one, found in zip(self.inputs, read, strict=True)]
        return self._features(len(instances), columns)

    def _placed(self) -> list[tuple[Input, int]]:
        """Return each input with the place of its first feature."""
        starts = accumulate((one.width for one in self.inputs), initial=0)
        return list(zip(self.inputs, starts, strict=False))

    def _features(self, count: int, columns: Sequence[Any]) -> np.ndarray:
        import numpy as np

        out = np.zeros((count, self.width), dtype=np.float32)
        at = 0
        for one, column in zip(self.inputs, columns, strict=True):
            steps.apply(one.steps, column, out[:, at : at + one.width])
            at += one.width
        return out

    def labels(self, column: Any) -> np.ndarray:
        """Return the target as numbers: float32 for regression and binary (0 or 1), int64 class indices otherwise."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.task == "regression":
            return values.numbers(column).astype(np.float32)
        assert self.classes is not None
        codes = pc.index_in(values.keys(column), pa.array([_text(value) for value in self.classes]))
        found = codes.fill_null(-1).to_numpy(zero_copy_only=False)
        return found.astype(np.float32) if self.task == "binary" else found.astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON types."""
        kept = ("target", "task", "rows_seen")
        return {
            **{name: getattr(self, name) for name in kept},
            "classes": list(self.classes) if self.classes is not None else None,
            "inputs": [{**vars(one), "steps": [dict(step) for step in one.steps]} for one in self.inputs],
            "statistics": dict(self.statistics),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote, in this release or before there was a language of recipes."""
        inputs = value["inputs"] if "inputs" in value else [_of_first_form(step) for step in value["steps"]]
        classes = tuple(value["classes"]) if value["classes"] is not None else None
        return cls(
            tuple(Input(**{**one, "steps": tuple(one["steps"])}) for one in inputs),
            value["target"],
            value["task"],
            classes,
            value["statistics"],
            value["rows_seen"],
            tuple(value.get("notes", ())),
        )

    def check_fields(self, index: int, row: Any) -> None:
        """Refuse a row, or columns, with other fields than the recipe reads.

        Raises:
            InvalidInputError: names the field.
        """
        if not isinstance(row, Mapping):
            raise InvalidInputError(f"instances[{index}] is {_said(row)}, not an object.", 'Send {"instances": [{"column": value, ...}]}.')
        for one in self.inputs:
            if one.column not in row:
                raise InvalidInputError(f"instances[{index}].{one.column} is missing.", f"Give {values.WANTS[one.kind]}, or null.")
        if len(row) > len(self.inputs):
            unknown = next(name for name in row if name not in self.columns)
            known = nearest(str(unknown), self.columns)
            hint = "It is what the model predicts: leave it out." if unknown == self.target else known
            raise InvalidInputError(f"instances[{index}].{str(unknown)[:60]} is unknown.", hint)


def _write(one: Input, column: Any, out: np.ndarray) -> None:
    out[:] = 0.0
    if one.form != "number":
        steps.apply(one.steps, values.read(one.form, column), out)
        return
    for start in range(0, len(out), _BLOCK):  # one block after another stays in the processor's cache
        steps.apply(one.steps, values.numbers(column.slice(start, _BLOCK)), out[start : start + _BLOCK])


def _of_first_form(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step of the first recipes as an input: number, flag, category or time."""
    column, kind = step["column"], step["kind"]
    scaling = {"shift": step["mean"], "by": step["std"]}
    if kind == "category":
        words = {"step": "vocabulary", "values": step["values"]}
        learned = [words, {"step": "one-hot", "size": len(step["values"]) + 1}]
        return {"column": column, "kind": "text", "form": "key", "steps": learned, "said": f"one-hot {len(step['values'])}"}
    if kind == "time":
        learned = [{"step": "time", **scaling, "zone": None}]
    else:
        learned = [*([{"step": "scale", **scaling}] if kind == "number" else []), {"step": "number"}]
    said = {"number": "scale", "flag": "impute 0", "time": "time"}[kind]
    return {"column": column, "kind": kind, "form": "number", "steps": learned, "said": said}


def _value(reader: Any, one: Input, index: int, value: Any) -> Any:
    try:
        return reader(value)
    except ValueError:
        raise InvalidInputError(
            f"instances[{index}].{one.column} is {_said(value)}, not {values.WANTS[one.kind]}.",
            f"Give {values.WANTS[one.kind]}, or null.",
        ) from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _said(value: Any) -> str:
    told = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object", type(None): "null"}
    shown = repr(value)
    return f"{told.get(type(value), type(value).__name__)} ({shown[:40]})" if len(shown) <= 40 else told.get(type(value), "something else")
