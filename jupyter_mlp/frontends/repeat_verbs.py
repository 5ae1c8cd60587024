"""Snapshots, their verification, and notebooks as pipelines."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.frontends.arguments import Context, Verb, assignments, option
from jupyter_mlp.frontends.naming import PARAMS, reference_of


def _snapshot(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    if given.with_data and not given.export:
        raise InvalidInputError(
            "--with-data says what goes into an exported file.", "Name it: %mlp_snapshot --export study.mlp --with-data"
        )
    taken = mlp.snapshot(given.notebook, weak=given.weak)
    if not given.export:
        return taken
    return taken.export(given.export, with_data=given.with_data, progress=context.progress("export"))


def _verify(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    snapshot, progress = reference_of(given.snapshot, context.names), context.progress("verify")
    return mlp.verify(snapshot, full=given.full, fresh_environment=given.fresh_environment, progress=progress)


def _diff(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.diff(reference_of(given.before, context.names), reference_of(given.after, context.names))


def _pipeline(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    return mlp.to_pipeline(given.notebook)


def _run(given: Namespace, context: Context) -> Any:
    import jupyter_mlp as mlp

    given_values = assignments(given.params, context.names, "-p", typed=False)  # the notebook says of which type they are
    told = context.progress(given.notebook or given.resume or "run")
    return mlp.run_notebook(given.notebook, given_values, output=given.output, resume=given.resume, fresh=given.fresh, progress=told)


REPEAT_VERBS: tuple[Verb, ...] = (
    Verb(
        "snapshot",
        "Tie this notebook, its data versions and its environment to one id that can be verified.",
        (
            option(
                "notebook",
                nargs="?",
                help="a notebook file, or snapshot:ID of one taken before; left out: the cells run in this kernel",
                completes="file",
            ),
            option("--weak", action="store_true", help="take it even where a clean run would not give what is shown"),
            option("--export", metavar="FILE", help="write it as one file that others verify"),
            option(
                "--with-data",
                action="store_true",
                help="put the data and models that it used inside: it is verified from the file alone",
            ),
        ),
        _snapshot,
        example="%mlp_snapshot --export study.mlp --with-data",
    ),
    Verb(
        "verify",
        "Run a snapshot again in a fresh process on the same data and compare it cell by cell.",
        (
            option("snapshot", help="snapshot:ID, or an exported file", completes="snapshot"),
            option("--full", action="store_true", help="train again too, instead of replaying the record"),
            option("--fresh-environment", action="store_true", help="in a new virtual environment with exactly its packages"),
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
            option("notebook", nargs="?", help="a notebook file", completes="file"),
            PARAMS,
            option("--output", metavar="FILE", help="where the executed notebook goes"),
            option("--resume", metavar="RUN", help="go on with a run that failed or was killed: its id, or its output notebook"),
            option("--fresh", action="store_true", help="run every cell, whatever is known from the run before"),
        ),
        _run,
        example="mlp run nightly.ipynb -p month=2",
    ),
)
