"""A generated workspace of many assets whose dependencies are known because they were chosen before any text was written.

Queries are spelled in many ways around the same choices - sub-queries, CTEs that shadow a name, unions, stars, windows, traps in
comments and strings - so the truth owes nothing to a parser. `truth` follows it by brute force.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from jupyter_mlp.core import column_lineage, sql_reader
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

Column = tuple[Ref, str]


@dataclass
class Asset:
    """A thing: its columns with what each depends on, and what all of it depends on; without columns it is one whole."""

    ref: Ref
    columns: dict[str, set[Column]] = field(default_factory=dict)
    whole: set[Column] = field(default_factory=set)  # columns on which all of it depends
    things: set[Ref] = field(default_factory=set)  # things without columns on which all of it depends


def generate(workspace: Workspace, count: int, seed: int) -> list[Asset]:
    """Record `count` assets in a workspace and return what each truly depends on."""
    chooser = random.Random(seed)
    assets: list[Asset] = []
    while len(assets) < count:
        frames = [one for one in assets if one.columns]
        models = [one for one in assets if one.ref.kind == "model"]
        draw = chooser.random()
        if len(frames) < 12 or draw < 0.03:
            assets.append(_table(workspace, chooser, len(assets)))
        elif draw < 0.78 or not models:
            assets += [_query(workspace, chooser, len(assets), frames)] if draw < 0.70 else _trained(workspace, chooser, frames)
        elif draw < 0.86:
            assets.append(_scored(workspace, chooser, len(assets), frames, models))
        elif draw < 0.93:
            assets.append(_on_model(workspace, chooser, frames, models))
        else:
            assets.append(_snapshot(workspace, chooser, assets))
    return assets


def truth(assets: list[Asset], start: Column) -> set[tuple[Ref, str | None]]:
    """Everything that depends on one column, by looking at every asset again and again until nothing changes."""
    hit: set[tuple[Ref, str | None]] = {start}
    before = 0
    while before != len(hit):
        before = len(hit)
        for asset in assets:
            touched = bool(asset.whole & hit) or any((ref, None) in hit for ref in asset.things)
            if not asset.columns and touched:
                hit.add((asset.ref, None))
            for name, sources in asset.columns.items():
                if touched or sources & hit:
                    hit.add((asset.ref, name))
    return hit - {start}


def _table(workspace: Workspace, chooser: random.Random, number: int) -> Asset:
    ref = Ref("table", f"lake.source_{number}", str(10**15 + number))
    names = [f"c{index}" for index in range(chooser.randint(4, 9))]
    with workspace.activities.recording("table", name=ref.name) as draft:
        draft.made.append(ref)
        draft.facts["columns"] = [[name, "double"] for name in names]
    return Asset(ref, {name: set() for name in names})


def _query(workspace: Workspace, chooser: random.Random, number: int, frames: list[Asset]) -> Asset:
    sources = chooser.sample(frames[-60:], chooser.randint(1, 3))
    sql, columns, whole = _spelled(chooser, number, sources)
    ref = Ref("dataset", f"set_{number}", f"{number:032x}")
    by_name = {_name(one): one for one in sources}
    columns_of = {one.ref: list(one.columns) for one in sources}
    query = sql_reader.read(sql)
    inputs = {use: by_name[use.name].ref for use in query.tables}
    with workspace.activities.recording("query", name=ref.name, used=[one.ref for one in sources], parameters={"sql": sql}) as draft:
        draft.made.append(ref)
        draft.facts["lineage"] = column_lineage.recorded(query, inputs, columns_of.__getitem__)
    return Asset(ref, columns, whole)


def _name(asset: Asset) -> str:
    return asset.ref.name


def _spelled(chooser: random.Random, number: int, sources: list[Asset]) -> tuple[str, dict[str, set[Column]], set[Column]]:
    """A query around choices made first: which columns each result column needs, and which decide the rows."""
    shape = chooser.choice(["plain", "plain", "cte", "nested", "shadow", "grouped", "union", "star", "window", "scalar"])
    if shape == "union":
        sources = [sources[0], sources[0]]
    aliases = [f"t{index}" for index in range(len(sources))]

    def pick(index: int) -> tuple[str, Column]:
        name = chooser.choice(list(sources[index].columns))
        spelled = chooser.choice([name, name.upper(), f"`{name}`"])
        return f"{aliases[index]}.{spelled}", (sources[index].ref, name)

    rows: set[Column] = set()
    joins = ""
    if shape != "union":
        for index in range(1, len(sources)):
            (left, one), (right, other) = pick(0), pick(index)
            rows |= {one, other}
            joins += (
                f" {chooser.choice(['JOIN', 'LEFT JOIN', 'FULL OUTER JOIN'])} {_name(sources[index])} {aliases[index]} ON {left} = {right}"
            )
    where = ""
    if chooser.random() < 0.4:
        text, column = pick(0)
        rows.add(column)
        where = f" WHERE {text} > {chooser.randint(0, 9)}"
        if chooser.random() < 0.3:
            inner = sources[-1]
            name = chooser.choice(list(inner.columns))
            rows.add((inner.ref, name))
            text, column = pick(0)
            rows.add(column)
            where += f" AND {text} IN (SELECT z.{name} FROM {_name(inner)} z)"
    columns: dict[str, set[Column]] = {}
    spelled: list[str] = []
    for index in range(chooser.randint(2, 6)):
        picks = [pick(chooser.randrange(len(sources)) if shape != "union" else 0) for _ in range(chooser.choice([1, 1, 1, 2, 3]))]
        form = " + ".join(text for text, _ in picks)
        form = chooser.choice([form, f"coalesce({form}, 0)", f"CASE WHEN {picks[0][0]} > 1 THEN {form} END", f"CAST({form} AS DOUBLE)"])
        columns[f"k{index}"] = {column for _, column in picks}
        spelled.append(f"{form} AS k{index}")
    trap = chooser.choice(
        ["", f" /* {chooser.choice(list(sources[0].columns))} */", f", '{chooser.choice(list(sources[0].columns))}' AS word"]
    )
    if trap.startswith(","):
        columns["word"] = set()
    body = f"SELECT {', '.join(spelled)}{trap} FROM {_name(sources[0])} {aliases[0]}{joins}{where}"
    if shape == "cte":
        return f"WITH part AS ({body}) SELECT * FROM part", columns, rows
    if shape == "nested":
        kept = chooser.sample(list(columns), max(1, len(columns) - 1))
        return f"SELECT {', '.join('x.' + name for name in kept)} FROM ({body}) x", {name: columns[name] for name in kept}, rows
    if shape == "shadow":  # a CTE that is called as a dataset hides it
        return f"WITH set_0 AS ({body}), source_1 AS (SELECT * FROM set_0) SELECT * FROM source_1", columns, rows
    if shape == "grouped":
        keys = list(columns)[:1]
        values = list(columns)[1:]
        rows |= columns[keys[0]]
        text = ", ".join([*keys, *(f"max({name}) AS {name}" for name in values), "count(*) AS n"])
        return f"SELECT {text} FROM ({body}) y GROUP BY {keys[0]}", {**columns, "n": set()}, rows
    if shape == "union":
        other = [pick(0) for _ in columns]
        text = ", ".join(t for t, _ in other)
        both = {name: sources_ | {column} for (name, sources_), (_, column) in zip(columns.items(), other, strict=True)}
        return f"{body} UNION ALL SELECT {text} FROM {_name(sources[0])} {aliases[0]}", both, rows
    if shape == "star":
        all_of = {name: {(sources[0].ref, name)} for name in sources[0].columns}
        return f"SELECT {aliases[0]}.* FROM {_name(sources[0])} {aliases[0]}{joins}{where}", all_of, rows
    if shape == "window":
        (by, one), (order, other) = pick(0), pick(0)
        text = f"SELECT {', '.join(spelled)}, row_number() OVER (PARTITION BY {by} ORDER BY {order}) AS place"
        columns.pop("word", None)
        return f"{text} FROM {_name(sources[0])} {aliases[0]}{joins}{where}", {**columns, "place": {one, other}}, rows
    if shape == "scalar":
        inner = sources[-1]
        name = chooser.choice(list(inner.columns))
        text = f"SELECT {', '.join(spelled)}, (SELECT max(q.{name}) FROM {_name(inner)} q) AS top"
        columns.pop("word", None)
        return f"{text} FROM {_name(sources[0])} {aliases[0]}{joins}{where}", {**columns, "top": {(inner.ref, name)}}, rows
    return body, columns, rows


def _id(chooser: random.Random) -> str:
    text = f"{chooser.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _trained(workspace: Workspace, chooser: random.Random, frames: list[Asset]) -> list[Asset]:
    data = chooser.choice([one for one in frames if one.ref.kind == "dataset"] or frames)
    read = chooser.sample(list(data.columns), max(1, len(data.columns) - chooser.randint(0, 2)))
    model, run = Ref("model", _id(chooser)), Ref("run", f"20260101-000000-{chooser.getrandbits(32):08x}")
    card: dict[str, Any] = {"signature": {"inputs": [{"name": name, "type": "double"} for name in read[1:]]}, "target": read[0]}
    folder = workspace.models / model.name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(card))
    parameters = {"model": "Net", "target": read[0]}
    with workspace.activities.recording("train", name="Net", used=[data.ref], parameters=parameters) as draft:
        draft.made += [run, model]
    needs = {(data.ref, name) for name in read}
    return [Asset(run, whole=needs), Asset(model, whole=needs)]


def _reads(workspace: Workspace, model: Ref) -> list[str]:
    card = json.loads((workspace.models / model.name / "model.json").read_text())
    return [*(column["name"] for column in card["signature"]["inputs"]), card["target"]]


def _scored(workspace: Workspace, chooser: random.Random, number: int, frames: list[Asset], models: list[Asset]) -> Asset:
    model, data = chooser.choice(models), chooser.choice(frames)
    ref = Ref("dataset", f"scored_{number}", f"{number:032x}")
    with workspace.activities.recording("predict", name=ref.name, used=[model.ref, data.ref]) as draft:
        draft.made.append(ref)
        draft.facts["columns"] = [[name, "double"] for name in data.columns]
    columns = {name: {(data.ref, name)} for name in data.columns}
    read = {(data.ref, name) for name in _reads(workspace, model.ref)}
    return Asset(ref, {**columns, "prediction": read | {(model.ref, None)}, "probability": read | {(model.ref, None)}})  # type: ignore[arg-type, dict-item]


def _on_model(workspace: Workspace, chooser: random.Random, frames: list[Asset], models: list[Asset]) -> Asset:
    model, data = chooser.choice(models), chooser.choice(frames)
    if chooser.random() < 0.5:
        ref = Ref("endpoint", f"end-{chooser.getrandbits(32):08x}", f"20260101-000000-{chooser.getrandbits(32):08x}")
        with workspace.activities.recording("deploy", name=ref.name, used=[model.ref]) as draft:
            draft.made.append(ref)
        return Asset(ref, things={model.ref})
    ref = Ref("evaluation", f"20260101-000000-{chooser.getrandbits(32):08x}")
    by = chooser.choice([None, *data.columns])
    with workspace.activities.recording("evaluate", used=[model.ref, data.ref], parameters={"by": by}) as draft:
        draft.made.append(ref)
    needs = {(data.ref, name) for name in [*_reads(workspace, model.ref), *([by] if by else [])]}
    return Asset(ref, whole=needs, things={model.ref})


def _snapshot(workspace: Workspace, chooser: random.Random, assets: list[Asset]) -> Asset:
    held = chooser.sample(assets, min(len(assets), chooser.randint(1, 4)))
    ref = Ref("snapshot", f"{chooser.getrandbits(128):032x}")
    with workspace.activities.recording("snapshot", used=[one.ref for one in held]) as draft:
        draft.made.append(ref)
    return Asset(ref, whole={(one.ref, name) for one in held for name in one.columns}, things={one.ref for one in held if not one.columns})
