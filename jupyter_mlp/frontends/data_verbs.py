"""Step 1, data: tables, queries, recipes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.core import queries
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.frontends.arguments import Context, Verb, assignments, option
from jupyter_mlp.frontends.naming import PARAMS, reference_of, text_of


def _table(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.write_table(given.name, context.names.get(given.source, given.source), append=given.append, in_place=given.in_place)


def _data(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    sql = context.cell if context.cell is not None else text_of(given.file)
    if sql is None:
        if given.name is None:
            raise InvalidInputError("Which dataset?", "%mlp_data NAME[@VERSION] shows one; %%mlp_data NAME with a query below makes one.")
        found = mlp.dataset(given.name)
        name = found.reference.name
    else:
        name = given.name or "result"
        params = assignments(given.params, context.names, "-p")
        if queries.statement(sql) is not None:
            return mlp.statement(sql, params=params)
        found = mlp.query(sql, name=name, params=params, fresh=given.fresh, progress=context.progress("Spark"))
    context.bind(name, found)
    return found


def _recipe(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    text = context.cell if context.cell is not None else text_of(given.file)
    data = reference_of(given.data, context.names)
    if given.into is not None and data is None:
        raise InvalidInputError("Features of which data?", "Write --data DATASET beside --into NAME.")
    name, progress = reference_of(given.name, context.names), context.progress("Spark")
    found = mlp.recipe(name, text, data=data, target=given.target, task=given.task, progress=progress)
    if given.into is None:
        return found
    made = mlp.features(found, data=data, into=given.into, progress=progress)
    context.bind(given.into, made)
    return made


def _pin(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.pin(reference_of(given.ref, context.names), reason=given.reason)


def _compact(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.compact(given.name)


DATA_VERBS: tuple[Verb, ...] = (
    Verb(
        "table",
        "Write files or a frame into the lake as a table's new version.",
        (
            option("name", help="namespace.table", completes="table"),
            option("source", help="a path, glob, URL, or a variable that holds a frame", completes="file"),
            option("--append", action="store_true", help="add the rows instead of replacing them"),
            option("--in-place", action="store_true", help="leave Parquet files where they are; later changes are noticed"),
        ),
        _table,
        example="%mlp_table lake.flights data/flights.csv",
    ),
    Verb(
        "data",
        "Run the Spark SQL below on exact table versions, or show a dataset made before.",
        (
            option("name", nargs="?", help="the dataset's name; NAME@VERSION shows a version", completes="dataset"),
            PARAMS,
            option("--fresh", action="store_true", help="run it even when the answer is known"),
            option("-f", "--file", help="read the query from a file"),
        ),
        _data,
        cell=True,
        example="%%mlp_data trips -p month=1   (and below: SELECT * FROM lake.flights WHERE month = :month)",
    ),
    Verb(
        "recipe",
        "Say below how columns become numbers, fit that on a dataset, or show a recipe.",
        (
            option(
                "name",
                nargs="?",
                help="its name, or NAME@VERSION; left out: the default for --data",
                completes="recipe",
            ),
            option("--data", metavar="DATASET", help="fit it on this dataset version", completes="dataset"),
            option("--target", help="the column to predict, where the recipe names none"),
            option("--task", choices=["regression", "binary", "multiclass"], help="inferred from the target when left out"),
            option("--into", metavar="NAME", help="let Spark apply it to the data, as a new dataset of features"),
            option("-f", "--file", help="read the recipe from a file"),
        ),
        _recipe,
        cell=True,
        example="%%mlp_recipe delays   (and below: dep_delay: impute median | scale, one line a column)",
    ),
    Verb(
        "pin",
        "Keep a version whatever the rules of the workspace say; mlp forget pin:ID ends it.",
        (
            option("ref", help="trips@1f3c, lake.flights@8213 ...; a name alone: its newest version", completes="dataset"),
            option("--reason", default="", help="for those who wonder later"),
        ),
        _pin,
        example="mlp pin trips@1f3c --reason 'in the paper'",
    ),
    Verb(
        "compact",
        "Write a table's many small files into few large ones, as its new version.",
        (option("name", help="namespace.table", completes="table"),),
        _compact,
        example="mlp compact lake.flights",
    ),
)
