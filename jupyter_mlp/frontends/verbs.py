"""The verbs: what each takes, and the one call it makes. Magics and command line are both made from this table."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_mlp.core import queries
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.frontends.arguments import Context, Verb, assignments, at_least, between, option
from jupyter_mlp.frontends.schedule_verbs import SCHEDULE_VERBS


def _data(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    sql = context.cell if context.cell is not None else _text_of(given.file)
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


def _table(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.write_table(given.name, context.names.get(given.source, given.source), append=given.append, in_place=given.in_place)


def _recipe(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    text = context.cell if context.cell is not None else _text_of(given.file)
    data = _reference(given.data, context.names)
    if given.into is not None and data is None:
        raise InvalidInputError("Features of which data?", "Write --data DATASET beside --into NAME.")
    name, progress = _reference(given.name, context.names), context.progress("Spark")
    found = mlp.recipe(name, text, data=data, target=given.target, task=given.task, progress=progress)
    if given.into is None:
        return found
    made = mlp.features(found, data=data, into=given.into, progress=progress)
    context.bind(given.into, made)
    return made


def _train(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.train(
        context.names.get(given.model, given.model),
        data=_reference(given.data, context.names),
        target=given.target,
        task=given.task,
        validation=_reference(given.validation, context.names),
        gpus=given.gpus,
        cluster=given.cluster,
        settings=assignments(given.set, context.names, "--set"),
        recipe=_reference(given.recipe, context.names),
        max_epochs=given.max_epochs,
        batch_size=given.batch_size,
        seed=given.seed,
        priority=given.priority,
        retries=given.retries,
        checkpoint_every=given.checkpoint_every,
        strategy=given.strategy,
        trainer=assignments(given.trainer, context.names, "--trainer"),
        callbacks=given.callbacks,
        early_stopping=given.early_stopping,
        detach=given.detach,
        fresh=given.fresh,
        progress=context.progress("train"),
    )


def _runs(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.runs(given.where, sort=given.sort, curve=given.curve, limit=given.limit)


def _evaluate(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.evaluate(_model(given.model, context.names), data=_reference(given.data, context.names), by=given.by)


def _explain(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.explain(
        _model(given.model, context.names), data=_reference(given.data, context.names), row=given.row, rows=given.rows, unit=given.unit
    )


def _deploy(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.deploy(
        _model(given.model, context.names),
        to=given.to,
        traffic=given.traffic,
        shadow=given.shadow,
        ramp=given.ramp,
        every=given.every,
        port=given.port,
        serve_from=given.serve_from,
        data=_reference(given.data, context.names),
        key=given.key,
    )


def _endpoint(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    found = mlp.endpoint(_reference(given.endpoint, context.names))
    if given.rollback:
        return found.rollback()
    if given.stop:
        found.stop()
    return found


def _predict(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    data = context.names.get(given.data)
    rows = data if isinstance(data, list) or hasattr(data, "columns") else _reference(given.data, context.names)
    found = mlp.predict(
        _model(given.target, context.names), data=rows, into=given.into, keep=given.keep, progress=context.progress("predict")
    )
    if given.into:
        context.bind(given.into, found)
    return found


def _outcomes(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    data = context.names.get(given.data)
    rows = data if isinstance(data, list) or hasattr(data, "columns") else _reference(given.data, context.names)
    return mlp.outcomes(_reference(given.endpoint, context.names), data=rows)


def _models(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.find_models(*(_model(word, context.names) for word in given.words), sort=given.sort)


def _alias(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    model = _model(given.model, context.names) if given.model is not None else None
    return mlp.alias(given.name, model, remove=given.remove)


def _monitor(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.monitor(_reference(given.endpoint, context.names))


def _snapshot(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.snapshot(given.notebook, weak=given.weak)


def _verify(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.verify(_reference(given.snapshot, context.names), full=given.full, progress=context.progress("verify"))


def _diff(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.diff(_reference(given.before, context.names), _reference(given.after, context.names))


def _pipeline(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.to_pipeline(given.notebook)


def _run(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    given_values = assignments(given.params, context.names, "-p", typed=False)  # the notebook says of which type they are
    return mlp.run_notebook(given.notebook, given_values, output=given.output, progress=context.progress(given.notebook))


def _attach(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    found = mlp.run(_reference(given.run, context.names))
    if given.cancel:
        found.cancel()
    if given.wait:
        found.wait(progress=context.progress("train"))
    return found.logs() if given.logs else found


def _graph(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.graph(_reference(given.ref, context.names))


def _status(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.status()


def _clusters(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.clusters()


def _doctor(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.doctor()


def _gc(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.gc(yes=given.yes)


def _forget(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.forget(_reference(given.ref, context.names), cascade=given.cascade, all=given.all)


def _pin(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.pin(_reference(given.ref, context.names), reason=given.reason)


def _compact(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.compact(given.name)


def _impact(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.impact(_reference(given.what, context.names))


def _model(word: str, names: Mapping[str, Any]) -> str:
    """A variable that holds a run means the model it made."""
    value = names.get(word)
    model = getattr(value, "model", None)
    return str(model) if isinstance(model, str) else str(_reference(word, names))


def _reference(word: Any, names: Mapping[str, Any]) -> Any:
    """A variable that holds one of our objects means its exact reference."""
    from jupyter_mlp.core.cards import Shown

    value = names.get(word) if isinstance(word, str) else None
    return value.ref if isinstance(value, Shown) else word


def _text_of(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", "Give the path of a text file with one query.") from error


_PARAMS = option("-p", "--params", action="append", metavar="NAME=VALUE", help="a parameter; NAME alone takes the notebook's variable")
_DATA = option("--data", required=True, metavar="DATASET", help="a dataset, like trips or trips@1f3c", completes="dataset")

VERBS: tuple[Verb, ...] = (
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
            _PARAMS,
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
        "train",
        "Train a LightningModule of this notebook on a dataset, in a job that outlives the kernel.",
        (
            option("model", help="the class, by name; mlp:tabular ... of ours; on the command line FILE.py:CLASS or NOTEBOOK.ipynb:CLASS"),
            option("--data", metavar="DATASET", help="a dataset; or a LightningDataModule or DataLoader of the code", completes="dataset"),
            option("--target", help="the column to predict"),
            option("--task", choices=["regression", "binary", "multiclass"], help="inferred from the target when left out"),
            option("--recipe", metavar="NAME", help="how columns become features; the data's default when left out", completes="recipe"),
            option("--validation", metavar="DATASET", help="default: 10 %% of the rows, set aside", completes="dataset"),
            option("--gpus", type=at_least(1), help="processes, one a GPU; CPU processes where there is none"),
            option(
                "--cluster", default="local", metavar="NAME", help="where to run; %%mlp_clusters shows them (local)", completes="cluster"
            ),
            option("--set", action="append", metavar="NAME=VALUE", help="an argument of the model's constructor"),
            option("--max-epochs", type=at_least(1), default=5, help="passes over the data (5)"),
            option("--batch-size", type=at_least(1), default=1024, help="rows a step over all processes (1024)"),
            option("--seed", type=at_least(0), default=7, help="seed of everything random (7)"),
            option("--priority", type=int, default=0, help="a higher one goes first where jobs have to wait (0)"),
            option("--retries", type=at_least(0), default=5, help="starts after a kill, until it gets a step further (5)"),
            option("--checkpoint-every", default="30s", metavar="STEPS|TIME", help="100, 30s or 5min; 0 for none (30s)"),
            option("--strategy", default="auto", metavar="NAME", help="auto, ddp, fsdp or another of the Trainer's (auto)"),
            option("--trainer", action="append", metavar="NAME=VALUE", help="an argument of Lightning's Trainer: precision=bf16-mixed"),
            option("--callbacks", metavar="VARIABLE", help="a variable that holds callbacks of Lightning"),
            option("--early-stopping", metavar="METRIC", help="end when it gets no better: val_loss"),
            option("--detach", action="store_true", help="return at once; the job goes on"),
            option("--fresh", action="store_true", help="train even when the same was trained before"),
        ),
        _train,
        example="run = %mlp_train DelayModel --data trips --target arr_delay --max-epochs 3",
    ),
    Verb(
        "attach",
        "Find a training run again: its state, metrics, log.",
        (
            option("run", help="run:ID", completes="run"),
            option("--logs", action="store_true", help="its log"),
            option("--wait", action="store_true", help="wait for its end"),
            option("--cancel", action="store_true", help="stop it"),
        ),
        _attach,
        example="%mlp_attach run:20261124-101500-1f3c9a2b --logs",
    ),
    Verb(
        "runs",
        "Compare training runs: metrics, settings and data in one table, curves in one picture.",
        (
            option("--where", metavar="CONDITIONS", help='which: "val_mae < 12 and state = finished"'),
            option("--sort", metavar="NAME", help="by a metric (best first), or another column (smallest first)"),
            option("--curve", metavar="METRIC", help="the metric that is drawn; left out, the one sorted by"),
            option("--limit", type=at_least(1), default=20, help="how many (20)"),
        ),
        _runs,
        example='%mlp_runs --where "val_mae < 12" --sort val_mae',
    ),
    Verb(
        "evaluate",
        "Judge a model on a dataset: metrics, baseline, plots.",
        (
            option("model", help="model:UUID, a model's name, or a variable that holds a run", completes="model"),
            _DATA,
            option("--by", metavar="COLUMN", help="the same metrics per value of a column"),
        ),
        _evaluate,
        example="%mlp_evaluate DelayModel --data trips_test --by carrier",
    ),
    Verb(
        "explain",
        "Say which columns a model's answers come from, over a dataset or for single rows, in a sentence.",
        (
            option("model", help="model:UUID, a model's name, or a variable that holds a run", completes="model"),
            _DATA,
            option("--row", type=at_least(0), metavar="NUMBER", help="why this row, counted from 0, is answered as it is"),
            option("--rows", metavar="NUMBERS", help="several: 3,7,100:120"),
            option("--unit", default="", help="of the target, written after its numbers: min"),
        ),
        _explain,
        example="%mlp_explain DelayModel --data trips_test --row 17 --unit min",
    ),
    Verb(
        "deploy",
        "Serve a model over HTTP, in processes that outlive the kernel; a second deploy swaps without a pause.",
        (
            option("model", help="model:UUID, a model's name, or a variable that holds a run", completes="model"),
            option("--to", required=True, metavar="ENDPOINT", help="the endpoint's name", completes="endpoint"),
            option("--traffic", type=between(0, 100), metavar="PERCENT", help="share of the requests; the rest stays where it is"),
            option("--shadow", action="store_true", help="answer nothing, log what it would have answered"),
            option("--ramp", metavar="PERCENTS", help="10,50,100: its share grows by itself, and goes back if the model fails"),
            option("--every", default="10m", metavar="TIME", help="time between the steps of the ramp (10m)"),
            option("--port", type=between(1, 65535), help="a free one when left out"),
            option("--serve-from", choices=["store"], help="answer keys too, from --data of predictions in the online store"),
            option("--data", metavar="PREDICTIONS", help="what %%mlp_predict made with this model", completes="dataset"),
            option("--key", metavar="COLUMN", help="the column that names the predictions"),
        ),
        _deploy,
        example="%mlp_deploy DelayModel --to delays",
    ),
    Verb(
        "endpoint",
        "Show an endpoint as it is now; roll it back or stop it.",
        (
            option("endpoint", help="the endpoint's name", completes="endpoint"),
            option("--rollback", action="store_true", help="serve again what was served before, without a pause"),
            option("--stop", action="store_true", help="end its processes; its log stays"),
        ),
        _endpoint,
        example="mlp endpoint delays --stop",
    ),
    Verb(
        "predict",
        "Predict with a model (a whole dataset, as a new dataset) or an endpoint (over HTTP).",
        (
            option("target", help="model:UUID, a model's name, or endpoint:NAME", completes="model"),
            option("--data", required=True, help="a dataset, or a variable that holds rows or a frame", completes="dataset"),
            option("--into", metavar="NAME", help="name of the dataset of predictions"),
            option("--keep", metavar="COLUMNS", help="of a dataset, the columns beside the prediction: id,carrier; all when left out"),
        ),
        _predict,
        example="%mlp_predict endpoint:delays --data new_flights",
    ),
    Verb(
        "outcomes",
        "Say what really happened to what an endpoint predicted: a column of answer ids, a column of true values.",
        (
            option("endpoint", help="the endpoint's name", completes="endpoint"),
            option("--data", required=True, help="a dataset, or a variable that holds rows: id, value", completes="dataset"),
        ),
        _outcomes,
        example="%mlp_outcomes delays --data arrived",
    ),
    Verb(
        "models",
        "Find and compare models; of one model show everything that is known.",
        (
            option("words", nargs="*", help="an alias, model:UUID, or parts of names, targets and data", completes="model"),
            option("--sort", metavar="METRIC", help="the best of this metric first"),
        ),
        _models,
        example="%mlp_models DelayModel --sort mae",
    ),
    Verb(
        "alias",
        "Point a name like champion at a model; model:champion then stands wherever a model is named.",
        (
            option("name", help="the alias"),
            option("model", nargs="?", help="left out: show where it points and pointed", completes="model"),
            option("--remove", action="store_true", help="let it point at nothing"),
        ),
        _alias,
        example="%mlp_alias champion DelayModel",
    ),
    Verb(
        "monitor",
        "Look at an endpoint: requests, latency, errors, drift against the training data.",
        (option("endpoint", help="the endpoint's name", completes="endpoint"),),
        _monitor,
        example="%mlp_monitor delays",
    ),
    Verb(
        "snapshot",
        "Tie this notebook, its data versions and its environment to one id that can be verified.",
        (
            option("notebook", nargs="?", help="a notebook file; left out: the cells run in this kernel", completes="file"),
            option("--weak", action="store_true", help="take it even where a clean run would not give what is shown"),
        ),
        _snapshot,
        example="%mlp_snapshot",
    ),
    Verb(
        "verify",
        "Run a snapshot again in a fresh process on the same data and compare it cell by cell.",
        (
            option("snapshot", help="snapshot:ID, or an exported file", completes="snapshot"),
            option("--full", action="store_true", help="train again too, instead of replaying the record"),
        ),
        _verify,
        example="mlp verify snapshot:1f3c",
    ),
    Verb(
        "diff",
        "Say what is different between two snapshots: cells, parameters, data, packages, models, metrics.",
        (
            option("before", help="snapshot:ID, or an exported file", completes="snapshot"),
            option("after", help="snapshot:ID, or an exported file", completes="snapshot"),
        ),
        _diff,
        example="mlp diff snapshot:1f3c snapshot:9ab2",
    ),
    Verb(
        "pipeline",
        "Show the steps of a notebook and what each reads and makes, before anything runs.",
        (option("notebook", nargs="?", help="a notebook file; left out: this notebook", completes="file"),),
        _pipeline,
        example="mlp pipeline nightly.ipynb",
    ),
    Verb(
        "run",
        "Run a notebook from top to bottom with typed parameters, in a fresh process.",
        (
            option("notebook", help="a notebook file", completes="file"),
            _PARAMS,
            option("--output", metavar="FILE", help="where the executed notebook goes"),
        ),
        _run,
        example="mlp run nightly.ipynb -p month=2",
    ),
    Verb(
        "graph",
        "Draw what was made from what.",
        (option("ref", nargs="?", help="only what leads to and from this reference"),),
        _graph,
        example="%mlp_graph model:1f3c",
    ),
    Verb(
        "impact",
        "List everything that depends on a table, a dataset or one of their columns, with the cell that made it.",
        (option("what", help="lake.flights, lake.flights.dep_delay, dataset:trips.hour, model:1f3c ...", completes="table"),),
        _impact,
        example="%mlp_impact lake.flights.dep_delay",
    ),
    Verb(
        "gc",
        "Say what nothing refers to and who keeps the rest; with --yes remove it.",
        (option("--yes", action="store_true", help="remove it; without this nothing changes"),),
        _gc,
        example="mlp gc --yes",
    ),
    Verb(
        "forget",
        "Release a version, run, model or snapshot: it is kept no longer. Refused while something needs it.",
        (
            option("ref", help="trips@1f3c, lake.flights@8213, run:ID, model:UUID, snapshot:ID, pin:ID", completes="dataset"),
            option("--cascade", action="store_true", help="what was made of it too"),
            option("--all", action="store_true", help="every version of that name; of a table: drop it"),
        ),
        _forget,
        example="mlp forget trips@1f3c --cascade",
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
    *SCHEDULE_VERBS,
    Verb("status", "Show what is running and what was made last.", (), _status, example="%mlp_status"),
    Verb("clusters", "Show where training can run: free and total GPUs, and who does not answer.", (), _clusters, example="%mlp_clusters"),
    Verb("doctor", "Check this installation and say how to mend it.", (), _doctor, example="mlp doctor"),
)
