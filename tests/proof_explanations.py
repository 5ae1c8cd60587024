"""Sentences about models whose truth is known: is the right column named, and does what each sentence says hold?

Additive models (a random small network per column, summed) tell exactly what each column does to an answer, so the column
to name is known. Others multiply columns, so that a column's share is a matter of opinion; for these and the additive ones
alike, the row is changed as the sentence says, and a freshly loaded model is asked whether it answers what was printed.
Also: the effects of an additive model are compared with its true ones, number by number.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from models import publish, register_module

_SAYS = re.compile(
    r"^predicted (?P<answer>[-+\d.,]+) min (?:mostly|most of all) because (?P<column>\w+) = (?P<value>.*) \((?P<change>[-+\d.,]+)\); "
    r"at its (?:median|most frequent value) \((?P<usual>.*)\) it would be (?P<instead>[-+\d.,]+) min$"
)


def main() -> int:
    """Make models, explain rows, judge the sentences; 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        found = prove(range(given.models), given.rows, given.seed)
    return say(found)


def say(found: Counter[str]) -> int:
    """Print the figures; 1 when one is missed."""
    print(
        f"{found['additive']:,} rows of additive models: {found['named']:,} sentences name a column, {found['right']:,} the right one "
        f"({found['right'] / max(1, found['named']):.2%}, at least 99 %); {found['exact']:,} have the true effects to 1 %"
    )
    print(f"{found['other']:,} rows of models that multiply columns: {found['other named']:,} sentences name a column")
    print(f"{found['said']:,} counterfactuals asked of the model again: {found['holds']:,} hold (all must)")
    right = found["right"] >= 0.99 * found["named"] and found["named"] >= 0.5 * found["additive"] and found["other named"] > 0
    return int(not (right and found["holds"] == found["said"] > 0 and found["exact"] == found["additive"]))


def prove(models: Iterable[int], rows: int, seed: int) -> Counter[str]:
    """Return the counts over the models of these numbers, every fourth of which multiplies columns."""
    found: Counter[str] = Counter()
    for number in models:
        additive = number % 4 != 3
        _judge(np.random.default_rng([seed, number]), rows, additive, found)
    return found


def _judge(random: np.random.Generator, rows: int, additive: bool, found: Counter[str]) -> None:
    import torch

    import jupyter_mlp as mlp
    from jupyter_mlp.serving.predictor import Predictor
    from jupyter_mlp.store import registry
    from jupyter_mlp.store.workspace import current

    torch.manual_seed(int(random.integers(1 << 30)))
    table = _table(random)
    made: list[Any] = []

    def module_of(recipe: Any) -> Any:
        made.append(_network(recipe, additive, random))
        return made[0]

    model = register_module(current(), table, module_of)
    data = publish(current(), "rows", table)
    explanation = mlp.explain(model, data=data, rows=random.choice(table.num_rows, rows, replace=False).tolist(), unit="min")
    predictor = Predictor.load(registry.load(current(), f"model:{model}").folder)
    usual = {name: one.value for name, one in explanation.usual.items()}
    for row in explanation.rows:
        found["additive" if additive else "other"] += 1
        if additive:
            true = _truth(predictor.recipe, made[0], row.row, usual)
            largest = max(map(abs, true.values()))
            found["exact"] += all(abs(true[name] - row.effects[name]) <= 0.01 * largest for name in true)
        if row.column is None:
            continue
        found["named" if additive else "other named"] += 1
        if additive:
            side = np.sign(sum(true.values()))
            found["right"] += row.column == max(true, key=lambda name: true[name] * side)
        found["said"] += 1
        found["holds"] += _holds(row.sentence, row, usual, predictor)
    predictor.close()


def _table(random: np.random.Generator, count: int = 2000) -> pa.Table:
    columns: dict[str, Any] = {f"x{i}": random.normal(10 * i, 5, count) for i in range(int(random.integers(3, 7)))}
    columns["gate"] = random.integers(0, 40, count)
    columns["carrier"] = random.choice(["UA", "AA", "DL", "B6"], count, p=[0.4, 0.3, 0.2, 0.1])
    columns["late"] = random.random(count) < 0.3
    columns["x0"] = pa.array([None if random.random() < 0.02 else value for value in columns["x0"].tolist()], pa.float64())
    return pa.table({**columns, "target": random.normal(0, 20, count)})


def _network(recipe: Any, additive: bool, random: np.random.Generator) -> Any:
    import torch

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places = list(recipe.positions.values())
            self.parts = torch.nn.ModuleList(
                torch.nn.Sequential(torch.nn.Linear(len(at), 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)) for at in self.places
            )
            self.scales = random.uniform(2, 40, len(self.places)).tolist()

        def each(self, x: Any) -> Any:
            return [part(x[:, at[0] : at[-1] + 1])[:, 0] * s for part, at, s in zip(self.parts, self.places, self.scales, strict=True)]

        def forward(self, x: Any) -> Any:
            return sum(self.each(x))

    class Product(Sum):
        def forward(self, x: Any) -> Any:
            each = self.each(x)
            return each[0] * each[1] / 10 + sum(each[2:])

    return (Sum if additive else Product)().eval()


def _truth(recipe: Any, network: Any, row: Any, usual: Any) -> dict[str, float]:
    import torch

    with torch.inference_mode():
        own, other = (np.array([float(v[0]) for v in network.each(torch.from_numpy(recipe.rows([one])))]) for one in (dict(row), usual))
    return dict(zip(recipe.positions, (own - other).tolist(), strict=True))


def _holds(sentence: str, row: Any, usual: dict[str, Any], predictor: Any) -> bool:
    """Whether the model answers the row, and the row changed as the sentence says, as it says."""
    said = _SAYS.match(sentence)
    if said is None or said["column"] != row.column:
        print(f"unreadable: {sentence}")
        return False
    answers = predictor.predict_rows([dict(row.row), {**row.row, row.column: usual[row.column]}])
    told = [said["answer"], said["instead"]]
    digits = len(told[0].partition(".")[2])
    near = [abs(float(text.replace(",", "")) - answer) <= 0.51 * 10**-digits + 1e-4 for text, answer in zip(told, answers, strict=True)]
    change = float(said["change"].replace(",", ""))
    holds = all(near) and abs(change - (answers[0] - answers[1])) <= 0.51 * 10**-digits + 1e-4 and change * (row.prediction - row.usual) > 0
    if not holds:
        print(f"does not hold: {sentence}; the model says {answers}")
    return holds


if __name__ == "__main__":
    sys.exit(main())
