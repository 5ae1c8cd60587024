"""Steps 3 to 6: a model is judged, explained, served, asked, watched and trained again."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.frontends.arguments import Context, Verb, at_least, between, option
from jupyter_mlp.frontends.naming import model_of, reference_of


def _evaluate(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.evaluate(
        model_of(given.model, context.names),
        data=reference_of(given.data, context.names),
        by=given.by,
        against=model_of(given.against, context.names) if given.against is not None else None,
        task=given.task,
        group=given.group,
        k=given.k,
        time=given.time,
        season=given.season,
    )


def _explain(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.explain(
        model_of(given.model, context.names), data=reference_of(given.data, context.names), row=given.row, rows=given.rows, unit=given.unit
    )


def _models(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    words = [model_of(word, context.names) for word in given.words]
    if given.license is None:
        return mlp.find_models(*words, sort=given.sort)
    if len(words) != 1:
        raise InvalidInputError(f"--license is said of one model, not of {len(words)}.", "Write %mlp_models DelayModel --license MIT.")
    return mlp.set_license(words[0], given.license)


def _alias(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    model = model_of(given.model, context.names) if given.model is not None else None
    return mlp.alias(given.name, model, remove=given.remove)


def _deploy(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.deploy(
        model_of(given.model, context.names),
        to=given.to,
        traffic=given.traffic,
        shadow=given.shadow,
        ramp=given.ramp,
        every=given.every,
        guard=given.guard or (),
        port=given.port,
        listen=given.listen,
        cluster=given.cluster,
        replicas=given.replicas,
        serve_from=given.serve_from,
        data=reference_of(given.data, context.names),
        key=given.key,
        max_p99=given.max_p99,
        max_loss=given.max_loss,
        progress=context.progress("measure") if given.max_p99 or given.max_loss else None,
    )


def _endpoint(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    asked = [name for name in ("rollback", "remove", "manifest", "start", "stop") if getattr(given, name)]
    if len(asked) > 1:
        raise InvalidInputError(f"--{asked[0]} and --{asked[1]} are two things.", "Ask for one at a time.")
    found = mlp.endpoint(reference_of(given.endpoint, context.names))
    if given.rollback:
        return found.rollback()
    if given.remove:
        return found.remove(reference_of(given.remove, context.names))
    if given.manifest:
        return found.manifest(given.manifest)
    if given.start:
        return found.start()
    if given.stop:
        found.stop()
    return found


def _predict(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    data = context.names.get(given.data)
    rows = data if isinstance(data, list) or hasattr(data, "columns") else reference_of(given.data, context.names)
    found = mlp.predict(
        model_of(given.target, context.names), data=rows, into=given.into, keep=given.keep, progress=context.progress("predict")
    )
    if given.into:
        context.bind(given.into, found)
    return found


def _outcomes(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    data = context.names.get(given.data)
    rows = data if isinstance(data, list) or hasattr(data, "columns") else reference_of(given.data, context.names)
    return mlp.outcomes(reference_of(given.endpoint, context.names), data=rows)


def _monitor(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.monitor(reference_of(given.endpoint, context.names), notify=given.notify or (), guard=given.guard or ())


def _retrain(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.retrain(reference_of(given.endpoint, context.names), progress=context.progress("retrain"))


_DATA = option("--data", required=True, metavar="DATASET", help="a dataset, like trips or trips@1f3c", completes="dataset")

MODEL_VERBS: tuple[Verb, ...] = (
    Verb(
        "evaluate",
        "Judge a model on a dataset: metrics, baseline, plots; or against another model on the same rows.",
        (
            option("model", help="model:UUID, a model's name, or a variable that holds a run", completes="model"),
            _DATA,
            option("--by", metavar="COLUMN", help="the same metrics per value of a column"),
            option("--against", metavar="MODEL", help="another model on the same rows: which is better, how surely", completes="model"),
            option(
                "--task",
                choices=["regression", "binary", "multiclass", "ranking", "forecast"],
                help="ranking: how it orders the rows of each --group; forecast: beside the naive one; else the model's own",
            ),
            option("--group", metavar="COLUMN", help="whose rows a ranking orders, like user_id; the series of a forecast"),
            option("-k", type=at_least(1), default=10, help="places that NDCG@k looks at (10)"),
            option("--time", metavar="COLUMN", help="of a forecast"),
            option("--season", type=at_least(1), default=1, metavar="STEPS", help="how far back the naive forecast looks: 7 of days (1)"),
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
        "models",
        "Find and compare models; of one model show everything that is known.",
        (
            option("words", nargs="*", help="an alias, model:UUID, or parts of names, targets, data and licenses", completes="model"),
            option("--sort", metavar="METRIC", help="the best of this metric first"),
            option("--license", metavar="SPDX", help="say under which license one model is: MIT, Apache-2.0, LicenseRef-internal"),
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
        "deploy",
        "Serve a model over HTTP, in processes that outlive the kernel; a second deploy swaps without a pause.",
        (
            option("model", help="model:UUID, a model's name, or a variable that holds a run", completes="model"),
            option("--to", required=True, metavar="ENDPOINT", help="the endpoint's name", completes="endpoint"),
            option("--traffic", type=between(0, 100), metavar="PERCENT", help="share of the requests; the rest stays where it is"),
            option("--shadow", action="store_true", help="answer nothing, log what it would have answered"),
            option("--ramp", metavar="PERCENTS", help="10,50,100: its share grows by itself, and goes back if the model fails"),
            option("--every", default="10m", metavar="TIME", help="time between the steps of the ramp (10m)"),
            option(
                "--guard",
                action="append",
                metavar="LIMIT",
                help="error_rate<=1%% or p99<=50ms: it keeps to it, or goes back",
            ),
            option("--port", type=between(1, 65535), help="a free one when left out"),
            option("--listen", metavar="ADDRESS", help="of this machine, 0.0.0.0 for all of its addresses; loopback when never given"),
            option("--cluster", metavar="NAME", help="a Ray cluster that serves it; where it is when left out", completes="cluster"),
            option("--replicas", type=at_least(1), metavar="NUMBER", help="processes that share the requests (1)"),
            option("--serve-from", choices=["store"], help="answer keys too, from --data of predictions in the online store"),
            option("--data", metavar="DATASET", help="predictions of this model by --key, or rows to measure on", completes="dataset"),
            option("--key", metavar="COLUMN", help="the column that names the predictions"),
            option("--max-p99", metavar="TIME", help="5ms: serve it in the fastest of several ways that is measured to keep to this"),
            option("--max-loss", metavar="PERCENT", help="0.5%%: ... and whose metric is at most this much worse"),
        ),
        _deploy,
        example="%mlp_deploy DelayModel --to delays",
    ),
    Verb(
        "endpoint",
        "Show an endpoint as it is now; roll it back, take a model out, stop and start it, or hand it to another service manager.",
        (
            option("endpoint", help="the endpoint's name", completes="endpoint"),
            option("--rollback", action="store_true", help="serve again what was served before, without a pause"),
            option("--remove", metavar="MODEL", help="take a model out that is tried there beside others", completes="model"),
            option("--stop", action="store_true", help="end its processes; its log stays"),
            option("--start", action="store_true", help="serve again what was served before a stop, or a restart of the machine"),
            option("--manifest", metavar="FORM", help="print what makes systemd or kserve run it, for a file"),
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
        "monitor",
        "Look at an endpoint: requests, latency, errors, drift against the training data; tell somebody of new alarms.",
        (
            option("endpoint", help="the endpoint's name", completes="endpoint"),
            option("--notify", action="append", metavar="WHOM", help="https://..., mailto:... or command:..., told of each new alarm once"),
            option("--guard", action="append", metavar="LIMIT", help="error_rate<=1%% or p99<=50ms: an alarm when it is broken"),
        ),
        _monitor,
        example="%mlp_monitor delays",
    ),
    Verb(
        "retrain",
        "Train the model behind an endpoint again on the newest version of its data, and put it there as a shadow.",
        (option("endpoint", help="the endpoint's name", completes="endpoint"),),
        _retrain,
        example="%mlp_retrain delays",
    ),
)
