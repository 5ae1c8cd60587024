"""Step 2, train: jobs, and what became of them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.frontends.arguments import Context, Verb, assignments, at_least, option
from jupyter_mlp.frontends.naming import reference_of


def _train(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.train(
        context.names.get(given.model, given.model) if given.model else None,
        data=reference_of(given.data, context.names),
        target=given.target,
        task=given.task,
        validation=reference_of(given.validation, context.names),
        gpus=given.gpus,
        cluster=given.cluster,
        settings=assignments(given.set, context.names, "--set"),
        recipe=reference_of(given.recipe, context.names),
        max_epochs=given.max_epochs,
        batch_size=given.batch_size,
        seed=given.seed,
        priority=given.priority,
        retries=given.retries,
        checkpoint_every=given.checkpoint_every,
        max_stall=given.max_stall,
        strategy=given.strategy,
        tensor_parallel_size=given.tensor_parallel_size,
        trainer=assignments(given.trainer, context.names, "--trainer"),
        callbacks=given.callbacks,
        early_stopping=given.early_stopping,
        detach=given.detach,
        fresh=given.fresh,
        resume=reference_of(given.resume, context.names),
        progress=context.progress("train"),
    )


def _attach(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    found = mlp.run(reference_of(given.run, context.names))
    if given.cancel:
        found.cancel()
    if given.wait:
        found.wait(progress=context.progress("train"))
    return found.logs() if given.logs else found


def _runs(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.runs(given.where, sort=given.sort, curve=given.curve, limit=given.limit)


def _clusters(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.clusters()


TRAIN_VERBS: tuple[Verb, ...] = (
    Verb(
        "train",
        "Train a LightningModule of this notebook on a dataset, in a job that outlives the kernel.",
        (
            option(
                "model",
                nargs="?",
                help="the class, by name; mlp:tabular ... of ours; on the command line FILE.py:CLASS or NOTEBOOK.ipynb:CLASS",
            ),
            option(
                "--data",
                metavar="DATASET",
                help="a dataset, a table (lake.NAME), Parquet files (s3://bucket/folder); or a LightningDataModule, DataLoader of the code",
                completes="dataset",
            ),
            option("--target", help="the column to predict"),
            option("--task", choices=["regression", "binary", "multiclass"], help="inferred from the target when left out"),
            option("--recipe", metavar="NAME", help="how columns become features; the data's default when left out", completes="recipe"),
            option("--validation", metavar="DATASET", help="default: 10 %% of the rows, set aside", completes="dataset"),
            option("--gpus", type=at_least(1), help="processes, one a GPU; CPU processes where there is none"),
            option("--cluster", metavar="NAME", help="where to run; %%mlp_clusters shows them (local)", completes="cluster"),
            option("--set", action="append", metavar="NAME=VALUE", help="an argument of the model's constructor"),
            option("--max-epochs", type=at_least(1), help="passes over the data (5)"),
            option("--batch-size", type=at_least(1), help="rows a step over all processes (1024)"),
            option("--seed", type=at_least(0), help="seed of everything random (7)"),
            option("--priority", type=int, help="a higher one goes first where jobs have to wait (0)"),
            option("--retries", type=at_least(0), help="starts after a kill, until it gets a step further (5)"),
            option("--checkpoint-every", metavar="STEPS|TIME", help="100, 30s or 5min; 0 for none (30s)"),
            option("--max-stall", metavar="TIME", help="ended, and started again, once it stood still for that long; 0 for never (1h)"),
            option("--strategy", metavar="NAME", help="auto, ddp, fsdp, model_parallel or another of the Trainer's (auto)"),
            option("--tensor-parallel-size", type=at_least(1), metavar="N", help="processes that share each layer, for model_parallel"),
            option("--trainer", action="append", metavar="NAME=VALUE", help="an argument of Lightning's Trainer: precision=bf16-mixed"),
            option("--callbacks", metavar="VARIABLE", help="a variable that holds callbacks of Lightning"),
            option("--early-stopping", metavar="METRIC", help="end when it gets no better: val_loss"),
            option("--detach", action="store_true", help="return at once; the job goes on"),
            option("--fresh", action="store_true", help="train even when the same was trained before"),
            option(
                "--resume",
                metavar="RUN",
                help="go on with a run that has ended, from its last checkpoint; takes --gpus, --max-epochs, --cluster, --retries ...",
                completes="run",
            ),
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
    Verb("clusters", "Show where training can run: free and total GPUs, and who does not answer.", (), _clusters, example="%mlp_clusters"),
)
